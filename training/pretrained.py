"""What a run starts from: ImageNet's weights, another run's, or random ones."""

from collections.abc import Callable
from pathlib import Path

import keras

from training import run_folder
from training.errors import TrainingError
from training.network import model
from training.network.imagenet import load_imagenet
from training.network.inverted_residuals import STAGES, STRIDES, backbone_layers
from training.network.lite0_weights import find_package_file, load_lite0
from training.network.mobilenet_v2_weights import download_mobilenet_v2, load_mobilenet_v2
from training.network.presets import Preset
from training.settings import TrainSettings

NONE, IMAGENET = "none", "imagenet"
# Where ImageNet's weights can be had without a file: what makes sure that they are there, and what
# puts these, or those of a file, into a network.
_IMAGENET: dict[str, tuple[Callable[[], object], Callable[[keras.Model, Path | None], str]]] = {
    "ssd_lite0": (find_package_file, load_lite0),
    "ssd_mobilenet_v2": (download_mobilenet_v2, load_mobilenet_v2),
}


def pretrained_run(settings: TrainSettings) -> Path | None:
    """The run folder that the settings start from; None where they start from something else."""
    given = settings.pretrained
    return Path(given) if given and given not in (NONE, IMAGENET) and Path(given).is_dir() else None


def check_pretrained(settings: TrainSettings, preset: Preset) -> None:
    """Refuse, before anything is written, what cannot be started from, by trying it.

    Raises:
        TrainingError: there is no such file or run, it is damaged or of another network, or the
            preset has no such weights.
    """
    given = _source(settings, preset)
    if given == IMAGENET:
        if preset.name not in _IMAGENET:
            raise TrainingError(
                f"--pretrained imagenet is for {' and '.join(_IMAGENET)}: for {preset.name} name a "
                "file or a run"
            )
        find, _ = _IMAGENET[preset.name]
        find()  # so that nobody waits for a network before he is told what to install
    elif given != NONE and not Path(given).exists():
        raise TrainingError(
            "--pretrained: expected imagenet, none, a file of weights or a run folder, found "
            f"{given}, which does not exist"
        )
    _frozen_stride(settings, preset)
    if given != NONE:
        load_pretrained(model.build_network(preset, classes=1), settings, preset)


def load_pretrained(network: keras.Model, settings: TrainSettings, preset: Preset) -> str:
    """Give a network of the preset what it starts from.

    Returns:
        A line that says what was loaded; empty for random weights.

    Raises:
        TrainingError: it does not fit, or is damaged; nothing was loaded.
    """
    given = _source(settings, preset)
    if given == NONE:
        return ""
    if run := pretrained_run(settings):
        return run_folder.start_from(network, run)
    if preset.name in _IMAGENET:
        _, load = _IMAGENET[preset.name]
        return load(network, None if given == IMAGENET else Path(given))
    return load_imagenet(network, Path(given))


def freeze_backbone(network: keras.Model, settings: TrainSettings, preset: Preset) -> None:
    """Let the backbone stay as it is, up to the stride that the settings or the preset name.

    Random weights are not frozen unless the settings say so.

    Raises:
        TrainingError: the network has no such part.
    """
    if stride := _frozen_stride(settings, preset):
        for layer in backbone_layers(network, stride):
            layer.trainable = False


def _source(settings: TrainSettings, preset: Preset) -> str:
    return settings.pretrained or preset.pretrained


def _frozen_stride(settings: TrainSettings, preset: Preset) -> int:
    """0 where nothing is frozen."""
    if settings.freeze is None:
        return preset.freeze if _source(settings, preset) != NONE else 0
    allowed = (0, *STRIDES) if preset.name in STAGES else (0,)
    if settings.freeze not in allowed:
        raise TrainingError(
            f"--freeze: {preset.name} takes {', '.join(map(str, allowed))}, found {settings.freeze}"
        )
    return settings.freeze
