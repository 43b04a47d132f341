"""What a command of this folder says when it cannot go on: one message, no stack trace."""


class TrainingError(Exception):
    """Says what was wrong, what was expected, what was found, and what to do."""

    exit_code = 1
