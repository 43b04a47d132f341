"""Settings of `train` from a JSON file: of their names, or a run's own run.json."""

import argparse
import dataclasses
import difflib
import reprlib
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from training.errors import TrainingError
from training.network.presets import PRESETS
from training.run_folder import read_json
from training.settings import TrainSettings

_WORDS = {bool: "true or false", int: "an integer", float: "a number", type(None): "null"}


def parse_settings(arguments: list[str], prog: str) -> TrainSettings:
    """The command line's settings; those it leaves out, the file's that --config names.

    Raises:
        TrainingError: the file does not exist, is damaged, or holds what is no setting.
    """
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    known, rest = parser.parse_known_args(arguments)
    if known.config is None:
        return tyro.cli(TrainSettings, args=rest, prog=prog)
    settings = tyro.cli(TrainSettings, args=rest, prog=prog, default=_read_settings(known.config))
    print(f"{settings.preset}, but for: {', '.join(_differences(settings)) or 'nothing'}")
    return settings


def _read_settings(path: Path) -> TrainSettings:
    """The settings of a file; what it leaves out is tyro.MISSING where it has no default."""
    document = _read_document(path)
    hints = get_type_hints(TrainSettings)
    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(TrainSettings)
        if field.default is dataclasses.MISSING
    }
    given = {key: _convert(path, key, value, hints) for key, value in document.items()}
    return TrainSettings(**required | given)


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
    names = [field.name for field in dataclasses.fields(TrainSettings)]
    if key not in names:
        near = difflib.get_close_matches(key.replace("-", "_"), names, 1, cutoff=0)[0]
        raise TrainingError(f"{path}: there is no setting {key!r}, the nearest is {near!r}")
    if not _fits(value, hints[key]):
        expected = _describe_type(hints[key])
        raise TrainingError(f"{path}: {key} must be {expected}, got {reprlib.repr(value)}")
    return Path(value) if isinstance(value, str) and Path in _choices(hints[key]) else value


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    kinds: dict[Any, Any] = {Path: str, float: (int, float)}
    return any(
        value in get_args(kind)
        if get_origin(kind) is Literal
        else isinstance(value, kinds.get(kind, kind)) and isinstance(value, bool) == (kind is bool)
        for kind in _choices(hint)
    )


def _describe_type(hint: Any) -> str:
    return " or ".join(
        " or ".join(map(repr, get_args(kind)))
        if get_origin(kind) is Literal
        else _WORDS.get(kind, "text")
        for kind in _choices(hint)
    )


def _differences(settings: TrainSettings) -> list[str]:
    """What is set otherwise than by naming the preset alone, with what that would have given."""
    rows = []
    for field in dataclasses.fields(settings):
        value, usual = getattr(settings, field.name), field.default
        # The preset's learning rate and length are scaled, so not compared as they stand there.
        if field.name in ("input_size", "resize", "pretrained", "freeze", "batch_size"):
            value = getattr(PRESETS[settings.preset], field.name) if value is None else value
            usual = getattr(PRESETS[settings.preset], field.name)
        if field.name not in ("records", "output", "preset") and value != usual:
            rows.append(f"{field.name} {value}" + ("" if usual is None else f" (not {usual})"))
    return rows
