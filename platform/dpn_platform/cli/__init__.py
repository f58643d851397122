"""The command line `dpn`: one file per verb."""
