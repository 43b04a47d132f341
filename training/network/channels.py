"""Which channels of a network belong together, what they cost, and a network without some of them.

A convolution's output channels may be added to those of others (residual blocks, the top-down
path) and pass through layers that treat each channel by itself. Whoever removes channel 7 of one
convolution has to remove channel 7 of all that are added to it, with its batch normalisation, and
the weights by which later convolutions read it. Such convolutions are a group, named after its
first. It is found in the graph, so that nothing here knows a preset's layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from training.network.model import L2Normalization
from training.network.presets import Widths

# Their channel i is made of their input's channel i alone.
_CHANNEL_BY_CHANNEL = (
    layers.BatchNormalization,
    layers.ReLU,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.UpSampling2D,
    layers.Cropping2D,
    layers.ZeroPadding2D,
    L2Normalization,
)


@dataclass(frozen=True)
class Ends:
    """The groups of a layer's input and of its output; None where channels cannot be removed.

    A depthwise convolution, whose kernel is [h, w, channels, 1], has them as its input only.
    """

    input: str | None
    output: str | None


@dataclass(frozen=True)
class Channels:
    """A network's layers and groups by name.

    Groups that no channel can be removed from, because something else than a convolution reads
    them (the predictors: a channel is a coordinate or a class), are left out.
    """

    ends: dict[str, Ends]
    widths: dict[str, int]  # channels of each group
    costs: dict[str, int]  # of each convolution: multiply-adds a pair of input and output channel
    depths: dict[str, tuple[int, int]]  # of each convolution: its input and output channels

    def multiply_adds(self, widths: Mapping[str, int]) -> int:
        """Of all convolutions together, one image, when groups have so many channels."""
        total = 0
        for name, cost in self.costs.items():
            ends, (read, made) = self.ends[name], self.depths[name]
            total += cost * widths.get(ends.input or "", read) * widths.get(ends.output or "", made)
        return total

    def of_layers(self, widths: Mapping[str, int]) -> Widths:
        """Widths of groups as a preset records them, convolution by convolution."""
        groups = {name: self.ends[name].output for name in self.costs}
        return tuple((k, widths[v]) for k, v in groups.items() if v and v in widths)


def trace_channels(network: keras.Model) -> Channels:
    """The groups of a network that `model.build_network` made."""
    makers: dict[int, str] = {}  # tensor: the convolution that made its channels
    joined: dict[str, str] = {}  # convolution: another of its group, in the end its first
    fixed: set[str] = set()
    ends: dict[str, tuple[str | None, str | None]] = {}
    for operation in network.operations:
        read = [makers[id(x)] for x in keras.tree.flatten(operation.input) if id(x) in makers]
        is_depthwise = isinstance(operation, layers.DepthwiseConv2D)
        if isinstance(operation, layers.Conv2D):
            joined[operation.name] = made = operation.name
        elif isinstance(operation, layers.Add):
            made = _join(read, joined)
        elif is_depthwise or isinstance(operation, _CHANNEL_BY_CHANNEL):
            made = read[0] if read else None
        else:
            fixed.update(read)
            made = None
        if made:
            makers.update((id(x), made) for x in keras.tree.flatten(operation.output))
        ends[operation.name] = (read[0] if read else None, None if is_depthwise else made)
    fixed = {_first(name, joined) for name in fixed}
    groups = {name: _first(name, joined) for name in joined}
    groups = {name: group for name, group in groups.items() if group not in fixed}
    kinds = (layers.Conv2D, layers.DepthwiseConv2D)
    convolutions = [x for x in network.layers if isinstance(x, kinds)]
    return Channels(
        {k: Ends(groups.get(a or ""), groups.get(b or "")) for k, (a, b) in ends.items()},
        {x.name: x.filters for x in convolutions if groups.get(x.name) == x.name},
        {x.name: math.prod(x.output.shape[1:3]) * math.prod(x.kernel_size) for x in convolutions},
        {x.name: tuple(x.kernel.shape[2:]) for x in convolutions},
    )


def _join(names: list[str], joined: dict[str, str]) -> str:
    """Make one group of those that these convolutions are in, and return its first."""
    first, *others = (_first(name, joined) for name in names)
    for other in others:
        joined[other] = first
    return first


def _first(name: str, joined: dict[str, str]) -> str:
    while joined[name] != name:
        name = joined[name]
    return name


def take_over(
    network: keras.Model, source: keras.Model, channels: Channels, kept: Mapping[str, np.ndarray]
) -> None:
    """Give a narrowed network the weights of the one it is part of.

    Args:
        network: changed in place; its groups have as many channels as `kept` says.
        source: the whole network.
        channels: of the source.
        kept: group: int [n], the source's channels that stay, in their order.
    """
    for layer in source.layers:
        if layer.weights:
            ends = channels.ends[layer.name]
            weights = _cut(
                layer.get_weights(), kept.get(ends.input or ""), kept.get(ends.output or "")
            )
            network.get_layer(layer.name).set_weights(weights)


def _cut(
    weights: list[np.ndarray], read: np.ndarray | None, made: np.ndarray | None
) -> list[np.ndarray]:
    """Kernels [h, w, input, output] and vectors [output] without the channels that go."""
    if read is not None:
        weights = [x[:, :, read] if x.ndim == 4 else x for x in weights]
    if made is not None:
        weights = [x[..., made] for x in weights]
    return weights
