"""The one error a user's mistake becomes: a single clear line, exit code 2."""

from __future__ import annotations


class DpnError(Exception):
    """Something the user can mend: the message says what, where and what is allowed.

    The command line prints it as one line and exits with 2. Anything else that escapes is a bug of
    ours and keeps its traceback.
    """


class ConfigError(DpnError):
    """A configuration that cannot be used (unknown key, bad value, unreadable file)."""


#: what trying again, or another trial, cannot mend: the code or its environment is at fault
FAULTS_OF_CODE = (AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, SyntaxError,
                  TypeError)  # fmt: skip
