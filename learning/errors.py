"""What a command of this folder says when it cannot go on: one message, no stack trace."""


class LearningError(Exception):
    """Says what was wrong, what was expected, what was found, and what to do."""

    exit_code = 1


class UndecidedError(LearningError):
    """Nothing is wrong, and nothing decided yet: the same command goes on, as after a night's hours
    of training, or where the judge had too few requests."""

    exit_code = 4
