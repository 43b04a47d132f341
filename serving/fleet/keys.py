"""The API keys: a text file, one a line, the name of its owner and the key.

    camera-1  5f0c...
    camera-1  93ab...    # the next one: both hold until the first is taken out
    page      c41d...

What stands behind a # is left out, and so are empty lines.
"""

import re
from pathlib import Path

from serving.errors import PrerequisiteError
from serving.fleet.followed import read_words

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
KEY = re.compile(r"[A-Za-z0-9_.~+/=-]{16,256}")


def read_keys(file: Path) -> dict[str, str]:
    """The owner's name of each key.

    Raises:
        PrerequisiteError: it cannot be read, holds none, or a line is none. It tells no key.
    """
    keys: dict[str, str] = {}
    for where, words in read_words(file):
        if len(words) != 2 or not NAME.fullmatch(words[0]) or not KEY.fullmatch(words[1]):
            raise PrerequisiteError(
                f"{where}: expected a name and a key, of letters, digits, dots, dashes and "
                "underscores, the key 16 to 256 of them (it may hold +, /, = and ~), found "
                f"{_describe(words)}: make a key with openssl rand -hex 32"
            )
        if words[1] in keys:
            raise PrerequisiteError(f"{where}: that key stands there before")
        keys[words[1]] = words[0]
    if not keys:
        raise PrerequisiteError(f"{file} holds no key: a line each, the owner's name and the key")
    return keys


def _describe(words: list[str]) -> str:
    """What a line holds, without telling a key."""
    if len(words) != 2:
        return "one word" if len(words) == 1 else f"{len(words)} words"
    if not NAME.fullmatch(words[0]):
        return "another name"
    return f"another key, of {len(words[1])} characters"
