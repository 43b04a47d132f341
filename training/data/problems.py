"""What is wrong with annotated folders: errors, which end the work, and problems, which are told.

DataError           the folder cannot be used at all; itself a `TrainingError`
├── NoFolderError   none was named
├── BadSplitError   a split is missing, empty or not readable
├── BadImageError   a file does not decode (reading a folder makes a problem of it)
├── BadObjectError  an object cannot be used (reading a folder makes a problem of it)
│   ├── ZeroAreaError
│   │   └── PointError
│   └── UnknownClassError
└── ManifestError   records are missing or half written (training.data.records)
"""

import collections
import dataclasses
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from training.errors import TrainingError

Kind = Literal[
    "leakage",
    "duplicate image",
    "zero area",
    "under a pixel",
    "shares, not pixels",
    "bad flag",
    "outside the image",
    "clipped",
    "unknown class",
    "bad image",
    "missing image",
    "missing annotation",
    "outside the folder",
    "size disagrees",
    "bad XML",
    "bad text",
    "bad object",
    "bad id",
    "duplicate id",
    "bad split",
    "no boxes",
    "near-duplicate",
    "broken group",
    "frozen",
]
FatalFor = Literal["nothing", "box", "image", "split"]
CONSEQUENCE = {
    "nothing": "kept",
    "box": "box left out",
    "image": "image left out",
    "split": "split not usable",
}


class DataError(TrainingError):
    """The folder or the split cannot be used at all."""


class NoFolderError(DataError):
    """No folder was named: wrong usage."""

    exit_code = 2


class BadSplitError(DataError):
    """A split's file is missing, empty or not readable; `file` is its path in the folder."""

    def __init__(self, directory: Path, file: str, message: str) -> None:
        super().__init__(f"{directory / file}: {message}")
        self.file = file


class BadImageError(DataError):
    """An image file does not decode."""


class BadObjectError(DataError):
    """An object cannot be used."""


class ZeroAreaError(BadObjectError):
    """A box whose corners are equal or swapped."""


class PointError(ZeroAreaError):
    """A box without any extent: somebody clicked."""


class UnknownClassError(BadObjectError):
    """A class number that the folder gives no name."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One flaw: `file` is relative to the folder, `index` the object's place in it, from 0.

    In COCO that is the place in `annotations`, in YOLO the line.
    """

    file: str
    index: int | None
    kind: Kind
    message: str
    fatal_for: FatalFor  # what is left out because of it

    @property
    def is_remark(self) -> bool:
        """Whether nothing is lost or wrong because of it: only then is data fit for training."""
        if self.kind in ("leakage", "no boxes", "broken group"):
            return False
        spare = (("duplicate image", "image"), ("frozen", "image"), ("zero area", "box"))
        return self.fatal_for == "nothing" or (self.kind, self.fatal_for) in spare

    def __str__(self) -> str:
        place = self.file if self.file.isprintable() else repr(self.file)
        message = self.message if self.message.isprintable() else repr(self.message)
        return f"{place}{'' if self.index is None else f', object {self.index}'}: {message}"


def describe_problems(problems: Iterable[Problem], examples: int = 3) -> list[str]:
    """Lines that group problems by kind and by what was left out.

    Leakage comes first, for it is the one that makes figures lie, then the most frequent.
    """
    groups = collections.defaultdict(list)
    for problem in problems:
        groups[problem.kind, problem.fatal_for].append(problem)
    lines = []
    for (kind, fatal_for), group in sorted(
        groups.items(), key=lambda item: (item[0][0] != "leakage", -len(item[1]))
    ):
        lines.append(f"{len(group)} x {kind} ({CONSEQUENCE[fatal_for]})")
        lines += [f"    {problem}" for problem in group[:examples]]
        lines += [f"    and {len(group) - examples} more"] * (len(group) > examples)
    return lines


def brief(value: object) -> str:
    """Any value from a file, cut to what fits in a message."""
    return reprlib.repr(value)[:80]
