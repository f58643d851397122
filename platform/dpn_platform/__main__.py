"""`python -m dpn_platform` is `dpn`."""

from dpn_platform.cli.main import main

if __name__ == "__main__":
    main()
