"""Errors that are messages to the person at the keyboard, not bugs."""


class LabError(Exception):
    """Bad input: the message says in one line what was wrong and what to do.

    `trainloop.cli.entry_point` prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class NonFiniteError(LabError):
    """A logged loss became NaN or infinite; the run stopped, what was saved stays as it is."""

    exit_code = 1
