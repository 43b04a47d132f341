"""What the command says when it cannot go on: one message, no stack trace.

BulkError
├── UsageError      the command is wrong, or is not the one that began this output
└── PartsError      parts are not done; the same command goes on
"""


class BulkError(Exception):
    """Says what was wrong, what was expected, what was found, and what to do."""

    exit_code = 1


class UsageError(BulkError):
    """The command is wrong, or is not the one that began this output."""

    exit_code = 2


class PartsError(BulkError):
    """Parts are not done. The same command goes on."""
