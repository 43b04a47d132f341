"""The model that looks at photos nobody has labelled: what it finds, and how it sees the whole.

A run is converted to ONNX in memory, as an export does it. The maps that the predictors look at
become outputs of the network, so that photos can be compared by what the model makes of them.
"""

from pathlib import Path

import numpy as np
import onnx

from training.errors import TrainingError
from training.export.export import convert_run
from training.network.onnx_network import OnnxNetwork, load_onnx

_OWN = ("boxes", "scores")  # outputs of every exported network


def load_model(path: Path) -> OnnxNetwork:
    """The network of an artifact, of a lone model.onnx, or of a run's newest checkpoint.

    Raises:
        TrainingError: it is none of these.
    """
    if (path / "run.json").is_file():
        network = convert_run(path)
    else:
        file = path / "model.onnx" if path.is_dir() else path
        if not file.is_file():
            raise TrainingError(
                f"{path} is no model: expected the folder of an artifact, its model.onnx, or a run "
                "folder of `training train`; `training run` leaves them in int8/, float32/ and run/"
            )
        load_onnx(file)  # which says what is wrong with it
        network = onnx.load(file)
    maps = [onnx.ValueInfoProto(name=name) for name in _find_maps(network.graph)]
    network.graph.output.extend(maps)
    return load_onnx(network.SerializeToString())


def _find_maps(graph: onnx.GraphProto) -> list[str]:
    """The feature maps that scores are predicted from: inputs of the last convolutions."""
    makers = {name: node for node in graph.node for name in node.output}
    names, passed, maps = ["scores"], set[str](), set[str]()
    while names:
        name = names.pop()
        if name in passed or name not in makers:
            continue
        passed.add(name)
        if makers[name].op_type == "Conv":
            maps.add(makers[name].input[0])
        else:
            names += makers[name].input
    return sorted(maps)


def measure_features(network: OnnxNetwork, images: np.ndarray) -> np.ndarray:
    """Means over space of the maps that the predictors look at.

    Args:
        network: of `load_model`.
        images: uint8 [B, S, S, 3], as the network sees photos.

    Returns:
        float32 [B, D].
    """
    names = [each.name for each in network.session.get_outputs() if each.name not in _OWN]
    maps = network.session.run(names, {"images": images})  # [B, C, H, W] each
    return np.concatenate([each.mean(axis=(2, 3), dtype=np.float32) for each in maps], axis=1)
