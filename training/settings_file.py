"""Settings of a command from a JSON file: of their names, or a run's own run.json."""

import argparse
import dataclasses
import difflib
import reprlib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from training.errors import TrainingError
from training.network.presets import PRESETS
from training.run_folder import read_json
from training.settings import RecipeSettings, TrainSettings

_WORDS = {bool: "true or false", int: "an integer", float: "a number", type(None): "null"}
# What a run.json says of where it was trained, which another command chooses by itself.
_OF_PLACE = ("records", "output", "default_boxes", "precision", "xla", "logical_cpus", "mlflow")
# What says where, not how.
_UNTOLD = ("folders", "records", "output", "preset")
Settings = TypeVar("Settings", bound=RecipeSettings)


def parse_settings(arguments: list[str], prog: str, kind: type[Settings]) -> Settings:
    """The command line's settings; those it leaves out, the file's that --config names.

    Raises:
        TrainingError: the file does not exist, is damaged, or holds what is no setting of this
            kind.
    """
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    known, rest = parser.parse_known_args(arguments)
    if known.config is None:
        return tyro.cli(kind, args=rest, prog=prog)
    default = _read_settings(known.config, kind)
    settings = tyro.cli(kind, args=rest, prog=prog, default=default)
    print(f"{settings.preset}, but for: {', '.join(_differences(settings)) or 'nothing'}")
    return settings


def _read_settings(path: Path, kind: type[Settings]) -> Settings:
    """The settings of a file; what it leaves out is tyro.MISSING where it has no default."""
    document = _read_document(path)
    if "records" in document and kind is not TrainSettings:
        document = _take_recipe(path, document, kind)
    hints = {f.name: get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING
    }
    given = {key: _convert(path, key, value, hints) for key, value in document.items()}
    return kind(**required | given)


def _take_recipe(
    path: Path, document: dict[str, Any], kind: type[RecipeSettings]
) -> dict[str, Any]:
    """What `train` was told that concerns a command which is told less.

    Raises:
        TrainingError: it was told more, which would be lost.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    usual = {f.name: f.default for f in dataclasses.fields(TrainSettings) if f.name not in names}
    lost = [
        f"{key} {value}"
        for key, value in document.items()
        if key in usual and key not in _OF_PLACE and value != usual[key]
    ]
    if lost:
        raise TrainingError(
            f"{path}: {', '.join(lost)} can be told to `training train` alone: use that, or leave "
            "it out of a copy of the file"
        )
    return {key: x for key, x in document.items() if key not in usual and key != "output"}


def _read_document(path: Path) -> dict[str, Any]:
    expected = 'a JSON object such as {"epochs": 60}, or the run.json of a run'
    try:
        document: Any = read_json(path, expected)
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not text: expected {expected}") from None
    if isinstance(document, dict):
        document = document.get("settings", document)
    if not isinstance(document, dict):
        raise TrainingError(f"{path} holds no settings: expected {expected}")
    return document


def _convert(path: Path, key: str, value: Any, hints: dict[str, Any]) -> Any:
    if key not in hints:
        near = difflib.get_close_matches(key.replace("-", "_"), hints, 1, cutoff=0)[0]
        raise TrainingError(f"{path}: there is no setting {key!r}, the nearest is {near!r}")
    if not _fits(value, hints[key]):
        expected = _describe_type(hints[key])
        raise TrainingError(f"{path}: {key} must be {expected}, got {reprlib.repr(value)}")
    return _restore(value, hints[key])


def _restore(value: Any, hint: Any) -> Any:
    """A value as the settings hold it: paths are text in a file, and tuples are lists."""
    if isinstance(value, list):
        return tuple(_restore(each, get_args(hint)[0]) for each in value)
    return Path(value) if isinstance(value, str) and Path in _choices(hint) else value


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    kinds: dict[Any, Any] = {Path: str, float: (int, float)}
    return any(
        value in get_args(kind)
        if get_origin(kind) is Literal
        else isinstance(value, kinds.get(kind, kind)) and isinstance(value, bool) == (kind is bool)
        for kind in _choices(hint)
    )


def _describe_type(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"a list, each {_describe_type(get_args(hint)[0])}"
    return " or ".join(
        " or ".join(map(repr, get_args(kind)))
        if get_origin(kind) is Literal
        else _WORDS.get(kind, "text")
        for kind in _choices(hint)
    )


def _differences(settings: RecipeSettings) -> list[str]:
    """What is set otherwise than by naming the preset alone, with what that would have given."""
    rows = []
    for field in dataclasses.fields(settings):
        value, usual = getattr(settings, field.name), field.default
        # The preset's learning rate and length are scaled, so not compared as they stand there.
        if field.name in ("input_size", "resize", "pretrained", "freeze", "batch_size"):
            value = getattr(PRESETS[settings.preset], field.name) if value is None else value
            usual = getattr(PRESETS[settings.preset], field.name)
        if field.name not in _UNTOLD and value != usual:
            rows.append(f"{field.name} {value}" + ("" if usual is None else f" (not {usual})"))
    return rows
