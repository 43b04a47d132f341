"""The class names of a YOLO folder, and what else its data.yaml says."""

import re
from pathlib import Path
from typing import Any

import yaml

from training.data import files
from training.data.formats.values import clean_label
from training.data.problems import BadObjectError, DataError, brief

NAMES_FILES = ("obj.names", "classes.txt", "labels/classes.txt")
YAML_LIMIT = 2**18  # bytes; a thousand classes have 2**15
YAML_DEPTH = 10  # a data.yaml has two levels


def names_file(directory: Path) -> Path | None:
    """The text file with a class name a line."""
    paths = (directory / name for name in NAMES_FILES)
    return next((path for path in paths if files.is_file(path)), None)


def yaml_file(directory: Path) -> Path | None:
    """data.yaml, or the only YAML file there is."""
    paths = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")])
    named = [path for path in paths if path.stem == "data"]
    found = named or paths
    return found[0] if len(found) == 1 else None


def parse_yaml(path: Path) -> dict[str, Any]:
    """data.yaml as text, lists and dicts.

    Aliases are refused, for a few of them can stand for billions of items, and so is depth.
    BaseLoader makes nothing but text, so a class may be called `no` and a key be 0 or "0".
    """
    try:
        text = files.read_bytes(path, YAML_LIMIT).decode("utf-8-sig")
        _check_yaml(text)
        settings = yaml.load(text, Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"not acceptable as YAML: {type(error).__name__}: {reason}") from error
    if not isinstance(settings, dict) or "names" not in settings:
        raise DataError("expected `names: [cell, ...]`, the class names")
    if "kpt_shape" in settings:
        raise DataError("kpt_shape: labels with keypoints are not read; expected boxes or polygons")
    return settings


def _check_yaml(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > YAML_DEPTH or isinstance(event, yaml.AliasEvent):
            raise DataError("aliases (*name) and deep nesting are refused")


def class_names(settings: dict[str, Any]) -> dict[int, str]:
    """Class names by number, from a list or from `0: cell`."""
    names = settings["names"]
    pairs = list(enumerate(names)) if isinstance(names, list) else []
    if isinstance(names, dict) and all(re.fullmatch(r"\d{1,6}", str(key)) for key in names):
        pairs = [(int(key), name) for key, name in names.items()]
    if not pairs:
        raise DataError(f"names: expected [cell, ...] or 0: cell, found {brief(names)}")
    try:
        return {number: clean_label(name) for number, name in pairs}
    except BadObjectError as error:
        raise DataError(f"names: {error}") from error
