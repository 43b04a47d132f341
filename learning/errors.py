"""What a command of this folder says when it cannot go on: one message, no stack trace."""


class LearningError(Exception):
    """Says what was wrong, what was expected, what was found, and what to do."""

    exit_code = 1


class UndecidedError(LearningError):
    """The judge had too few requests: the canary stays, and the same command watches it again."""

    exit_code = 4
