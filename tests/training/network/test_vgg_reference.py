"""SSD300 once more, in plain numpy and loops, written from the paper (arXiv 1512.02325v5) and held
against `training`: default boxes, forward pass, encoding, matching, loss and mining.

Sections and equations are the paper's. Where it is silent the authors' Caffe code (branch ssd) is
followed, and named; where the project departs from both, the test says so.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from training.network import boxes, matching, model
from training.network.default_boxes import default_boxes
from training.network.loss import multibox_loss
from training.network.presets import SSD300_VGG16
from training.render import smears

Weights = dict[str, list[np.ndarray]]  # of each layer by name
Number = float | Fraction

SIDES = (38, 19, 10, 5, 3, 1)  # figure 2
BOXES_PER_CELL = (4, 6, 6, 6, 4, 4)  # section 3.1: conv4_3, conv10_2, conv11_2 without 3 and 1/3
BGR_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # ImageNet's, as VGG-16 was trained
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # the authors' prior_variance, as cx, cy, w, h


# --- Default boxes: section 2.2 "Choosing scales and aspect ratios for default boxes" ---


def _scales() -> list[float]:
    """Equation 4 with m = 5 for fc7 to conv11_2; section 3.1 puts 0.1 on conv4_3 in front. One
    more, by the same equation, is the s_(k+1) that the last map's extra box needs."""
    s_min, s_max, m = 0.2, 0.9, 5
    return [0.1] + [s_min + (s_max - s_min) / (m - 1) * (k - 1) for k in range(1, m + 2)]


def _default_boxes() -> np.ndarray:
    """cxcywh; in a cell the order of the authors' PriorBox layer: s, s', then each ratio, 1/it."""
    rows = []
    for k, (side, count) in enumerate(zip(SIDES, BOXES_PER_CELL, strict=True)):
        scale, following = _scales()[k : k + 2]
        shapes = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in (2, 1 / 2, 3, 1 / 3)[: count - 2]:
            shapes.append((scale * math.sqrt(ratio), scale / math.sqrt(ratio)))
        for i, j in itertools.product(range(side), range(side)):
            for width, height in shapes:
                rows.append(((j + 0.5) / side, (i + 0.5) / side, width, height))
    return np.array(rows)


def test_default_boxes() -> None:
    """All 8,732, not clipped to the image: the paper does not, and the authors set clip=False."""
    wanted = _default_boxes()
    assert wanted.shape == (8732, 4)
    np.testing.assert_allclose(default_boxes(SSD300_VGG16), wanted, rtol=1e-6)


def test_the_papers_scales_and_not_the_authors_whole_percents() -> None:
    """The code rounds the step of 17.5 % down to 17 (sides of 30, 60, 111, ... pixels); the project
    follows the equation. No side differs by more than a fortieth."""
    pixels = np.array([30, 60, 111, 162, 213, 264, 315])
    ratio = np.array(SSD300_VGG16.scales) * 300 / pixels
    np.testing.assert_allclose(SSD300_VGG16.scales, _scales(), rtol=1e-12)
    assert ratio.max() < 1.025
    assert ratio.min() == pytest.approx(1.0)


# --- Forward pass: section 3 "Base network", section 3.1, figure 2 ---


def _forward(weights: Weights, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB [300, 300, 3] -> offsets [8732, 4] and logits [8732, 1 + C]."""

    def conv(x: np.ndarray, name: str, **options: int) -> np.ndarray:
        return np.maximum(_convolve(x, weights[name], **options), 0.0)

    x: np.ndarray = image[..., ::-1] - BGR_MEAN
    for block, depth in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)):
        if block > 1:
            x = _max_pool(x, size=2, stride=2)
        for index in range(1, depth + 1):
            x = conv(x, f"conv{block}_{index}", pad=1)
        if block == 4:
            norm = np.sqrt((x**2).sum(axis=-1, keepdims=True))
            maps = [x / norm * weights["conv4_3_norm"][0]]  # section 3.1: scaled to 20, learned
    x = _max_pool(x, size=3, stride=1, pad=1)  # pool5: from 2x2-s2 to 3x3-s1
    x = conv(x, "fc6", pad=6, dilation=6)  # à trous
    x = conv(x, "fc7")
    maps.append(x)
    for block, pad, stride in ((8, 1, 2), (9, 1, 2), (10, 0, 1), (11, 0, 1)):
        x = conv(conv(x, f"conv{block}_1"), f"conv{block}_2", pad=pad, stride=stride)
        maps.append(x)
    assert tuple(len(x) for x in maps) == SIDES
    return _predict(weights, maps, "offsets"), _predict(weights, maps, "logits")


def _predict(weights: Weights, maps: list[np.ndarray], kind: str) -> np.ndarray:
    """Section 2.1: 3x3 filters on each map give numbers for each default box at each location."""
    found = [_convolve(x, weights[f"{kind}_{k}"], pad=1) for k, x in enumerate(maps)]
    return np.concatenate(
        [
            x.reshape(side * side * count, -1)
            for x, side, count in zip(found, SIDES, BOXES_PER_CELL, strict=True)
        ]
    )


def _convolve(
    x: np.ndarray, weights: list[np.ndarray], pad: int = 0, stride: int = 1, dilation: int = 1
) -> np.ndarray:
    """[H, W, C] with [k, k, C, D]: the sum of k * k shifted images, each times a [C, D] matrix."""
    kernel, bias = weights
    k = len(kernel)
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    side = (len(x) - dilation * (k - 1) - 1) // stride + 1
    total = np.tile(bias, (side * side, 1))
    for row, column in itertools.product(range(k), range(k)):
        y, x0 = row * dilation, column * dilation
        span = (side - 1) * stride + 1
        window = x[y : y + span : stride, x0 : x0 + span : stride]
        total += window.reshape(side * side, -1) @ kernel[row, column]
    return total.reshape(side, side, -1)


def _max_pool(x: np.ndarray, size: int, stride: int, pad: int = 0) -> np.ndarray:
    """Caffe's: a window that begins in the image counts, so 75 becomes 38."""
    side = math.ceil((len(x) + 2 * pad - size) / stride) + 1
    after = (side - 1) * stride + size - len(x) - pad
    x = np.pad(x, ((pad, after), (pad, after), (0, 0)), constant_values=-np.inf)
    span = (side - 1) * stride + 1
    windows = [
        x[row : row + span : stride, column : column + span : stride]
        for row, column in itertools.product(range(size), range(size))
    ]
    return np.max(windows, axis=0)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """SSD300 for 3 classes, with random weights that keep the signal's size and random biases."""
    network = model.build_network(SSD300_VGG16, 3)
    generator = np.random.default_rng(2)
    for layer in network.layers:
        for weight in layer.weights:
            if len(weight.shape) == 4:
                deviation = math.sqrt(2 / math.prod(weight.shape[:3]))
                weight.assign(generator.standard_normal(weight.shape, np.float32) * deviation)
            elif layer.name != "conv4_3_norm":
                weight.assign(generator.normal(0, 1, weight.shape))
    return network


def test_forward_pass(network: keras.Model) -> None:
    """Each map's outputs at their own scale: those of the last are a millionth of all sums."""
    image = np.random.default_rng(3).integers(0, 256, (300, 300, 3)).astype(np.float32)
    weights = {layer.name: layer.get_weights() for layer in network.layers}
    outputs = network(image[None])
    counts = [side * side * count for side, count in zip(SIDES, BOXES_PER_CELL, strict=True)]
    for kind, wanted in zip(("offsets", "logits"), _forward(weights, image), strict=True):
        found = np.split(outputs[kind][0].numpy(), np.cumsum(counts)[:-1])
        for k, theirs in enumerate(np.split(wanted, np.cumsum(counts)[:-1])):
            tolerance = 1e-4 * theirs.std()
            np.testing.assert_allclose(found[k], theirs, atol=tolerance, err_msg=f"{kind} {k}")


def test_new_layers_start_as_the_paper_says() -> None:
    """Section 3.1: "xavier" (Glorot, Bengio 2010) for new layers, and norms of 20 on conv4_3."""
    network = model.build_network(SSD300_VGG16, 3)
    for name in ("fc6", "conv8_2", "conv11_1"):
        kernel = network.get_layer(name).kernel.numpy()
        receptive = math.prod(kernel.shape[:2])
        bound = math.sqrt(6 / (receptive * (kernel.shape[2] + kernel.shape[3])))
        assert np.abs(kernel).max() == pytest.approx(bound, rel=1e-3)
    features = np.random.default_rng(0).normal(0, 100, (1, 2, 2, 512)).astype(np.float32)
    norms = np.linalg.norm(network.get_layer("conv4_3_norm")(features), axis=-1)
    np.testing.assert_allclose(norms, 20.0, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_l2_normalisation_of_none_and_of_much(policy: str) -> None:
    """A location where no channel fires has no gradient, and 16 bits do not overflow."""
    layer = model.L2Normalization(dtype=policy)
    x = tf.constant([[0.0, 0.0, 0.0], [3000.0, 0.0, 4000.0]], layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert y.dtype == layer.compute_dtype
    np.testing.assert_allclose(y, [[0, 0, 0], [12, 0, 16]], rtol=1e-3)
    gradient = tape.gradient(y, x).numpy()
    assert not gradient[0].any()
    assert np.isfinite(gradient).all()


# --- Matching: section 2.2 "Matching strategy" ---


def _iou(a: Sequence[Number], b: Sequence[Number]) -> Number:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _matches(
    truth: Sequence[Sequence[Number]], default: Sequence[Sequence[Number]]
) -> list[int | None]:
    """For each default box the index of the ground truth box it is matched to; all xyxy.

    The paper says "higher than a threshold (0.5)"; at 0.5 itself the authors' code matches, and so
    does the project. Of two truths with one best default box the later gets it: there the authors
    give the other its next best, and the paper says nothing.
    """
    overlaps = [[_iou(d, t) for t in truth] for d in default]
    owners: list[int | None] = [None] * len(default)
    for i, row in enumerate(overlaps):
        if row and max(row) >= 0.5:
            owners[i] = row.index(max(row))
    for j in range(len(truth)):
        column = [row[j] for row in overlaps]
        owners[column.index(max(column))] = j
    return owners


# Corners on a grid of sixteenths: floats hold them and all areas exactly, ties are ties.
_interval = st.integers(0, 15).flatmap(
    lambda low: st.tuples(st.just(low), st.integers(low + 1, 16))
)
_box = st.tuples(_interval, _interval).map(lambda x: (x[0][0], x[1][0], x[0][1], x[1][1]))


@settings(deadline=None)  # the first call traces, on a busy machine for seconds
@given(st.lists(_box, max_size=6), st.lists(_box, max_size=12))
def test_matching(truth: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> None:
    default = [(0, 0, 16, 16), *others]
    exact = [[[Fraction(c, 16) for c in box] for box in group] for group in (truth, default)]
    owners = _matches(*exact)
    default_cxcywh = boxes.to_cxcywh(tf.constant(default, tf.float32) / 16.0)
    offsets, targets = matching.match_boxes(
        tf.reshape(tf.constant(truth, tf.float32), [-1, 4]) / 16.0,
        tf.range(len(truth)),  # every truth its own class, so that a target names it
        tf.zeros([len(truth)], tf.bool),
        default_cxcywh,
    )
    assert targets.numpy().tolist() == [0 if owner is None else owner + 1 for owner in owners]
    for i, owner in enumerate(owners):
        wanted = [0.0] * 4 if owner is None else _encoded(exact[0][owner], exact[1][i])
        np.testing.assert_allclose(offsets[i], wanted, rtol=1e-4, atol=1e-4)


# --- Encoding: section 2.2 "Training objective", equation 2 ---


def _centred(box: Sequence[Number]) -> list[float]:
    x1, y1, x2, y2 = (float(c) for c in box)
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _encoded(truth: Sequence[Number], default: Sequence[Number]) -> list[float]:
    """g^ of equation 2, each part over its variance as in the authors' code; both boxes xyxy."""
    g, d = _centred(truth), _centred(default)
    hat = [
        (g[0] - d[0]) / d[2],
        (g[1] - d[1]) / d[3],
        math.log(g[2] / d[2]),
        math.log(g[3] / d[3]),
    ]
    return [part / variance for part, variance in zip(hat, VARIANCES, strict=True)]


# --- Training objective and hard negative mining: section 2.2, equations 1 to 3 ---


def _objective(
    offsets: np.ndarray,
    logits: np.ndarray,
    truth: Sequence[Sequence[float]],
    classes: list[int],
    default: Sequence[Sequence[float]],
) -> tuple[float, float, int]:
    """L_loc, L_conf and N of one image, before equation 1 divides by N.

    N counts over the batch, as in the authors' code. An image without objects has no loss in the
    paper; the project lets it keep three negatives.
    """
    owners = _matches(truth, default) if truth else [None] * len(default)
    positives = [i for i, owner in enumerate(owners) if owner is not None]
    localisation = 0.0
    losses = []
    for i, owner in enumerate(owners):
        target = 0 if owner is None else classes[owner] + 1
        exponentials = [math.exp(c) for c in logits[i]]
        losses.append(-math.log(exponentials[target] / sum(exponentials)))  # equation 3
        if owner is not None:
            for predicted, wanted in zip(
                offsets[i], _encoded(truth[owner], default[i]), strict=True
            ):
                localisation += _smooth_l1(predicted - wanted)  # equation 2
    negatives = sorted((losses[i] for i, owner in enumerate(owners) if owner is None), reverse=True)
    classification = sum(losses[i] for i in positives)
    classification += sum(negatives[: 3 * max(len(positives), 1)])
    return localisation, classification, len(positives)


def _smooth_l1(x: float) -> float:
    """Fast R-CNN (arXiv 1504.08083), equation 3, which the paper refers to."""
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def test_objective_from_boxes_to_loss() -> None:
    """Three images over SSD300's own default boxes, the last without objects."""
    generator = np.random.default_rng(7)
    truths = [_random_boxes(generator, count) for count in (9, 1, 0)]
    classes = [generator.integers(0, 3, len(truth)).tolist() for truth in truths]
    offsets = generator.normal(0, 2, (3, 8732, 4)).astype(np.float32)
    logits = generator.normal(0, 2, (3, 8732, 4)).astype(np.float32)

    targets = [
        matching.match_boxes(
            tf.reshape(tf.constant(truth, tf.float32), [-1, 4]),
            tf.constant(kinds, tf.int32),
            tf.zeros([len(kinds)], tf.bool),
            tf.constant(default_boxes(SSD300_VGG16)),
        )
        for truth, kinds in zip(truths, classes, strict=True)
    ]
    matched, kinds = (tf.stack(part) for part in zip(*targets, strict=True))
    default_cxcywh = tf.constant(default_boxes(SSD300_VGG16))
    found = multibox_loss(offsets, logits, matched, kinds, default_cxcywh, SSD300_VGG16)

    centres, sizes = np.split(_default_boxes(), 2, axis=1)
    default = np.hstack([centres - sizes / 2, centres + sizes / 2]).tolist()
    wanted = [
        _objective(*image, default) for image in zip(offsets, logits, truths, classes, strict=True)
    ]
    assert wanted[0][2] > 20
    np.testing.assert_allclose(np.transpose(found), wanted, rtol=1e-4)


def _random_boxes(generator: np.random.Generator, count: int) -> list[list[float]]:
    sizes = generator.uniform(0.1, 0.5, (count, 2))
    corners = generator.uniform(0, 1, (count, 2)) * (1 - sizes)
    return np.hstack([corners, corners + sizes]).astype(np.float32).tolist()


# --- And it learns ---


def test_a_step_of_sgd_lowers_the_loss() -> None:
    """On one rendered smear, from random weights, with a tenth of section 3's learning rate, as in
    the warm-up. No weight is left out, for there is an object of every map's size."""
    network = model.build_network(SSD300_VGG16, 3)
    optimizer = keras.optimizers.SGD(SSD300_VGG16.learning_rate / 10, momentum=0.9)
    image_bgr, cells, classes = smears.render_photo(np.random.default_rng(0), (300, 300))
    images = tf.constant(image_bgr[None, ..., ::-1], tf.float32)
    default_cxcywh = tf.constant(default_boxes(SSD300_VGG16))
    squares = [[0.5 - s / 2, 0.5 - s / 2, 0.5 + s / 2, 0.5 + s / 2] for s in _scales()[1:6]]
    offsets, targets = matching.match_boxes(
        tf.constant(np.vstack([cells / 300, squares]), tf.float32),
        tf.constant([*classes, 0, 0, 0, 0, 0], tf.int32),
        tf.zeros([len(cells) + 5], tf.bool),
        default_cxcywh,
    )

    def loss() -> tf.Tensor:
        outputs = network(images, training=True)
        localisation, classification, matches = multibox_loss(
            outputs["offsets"],
            outputs["logits"],
            offsets[None],
            targets[None],
            default_cxcywh,
            SSD300_VGG16,
        )
        return (localisation[0] + classification[0]) / matches[0]  # equation 1

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, network.trainable_variables)
    assert all(np.isfinite(g).all() for g in gradients)
    still = [
        w.path for w, g in zip(network.trainable_variables, gradients, strict=True) if not np.any(g)
    ]
    assert not still
    optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
    assert loss() < before
