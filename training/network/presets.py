"""The detectors, as data: what the network, its default boxes and its training start from.

A preset fixes everything that the artifact's graph depends on; of that the command line of
`training train` overrides the input, and else only the schedule.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from training.errors import TrainingError

PresetName = Literal[
    "ssd_compact", "ssd_compact_atss", "ssd_lite0", "ssd_mobilenet_v2", "ssd300_vgg16"
]
Resize = Literal["stretch", "letterbox"]
# (width, height) of each default box of a cell, fractions of the image, for each feature map.
BoxShapes = tuple[tuple[tuple[float, float], ...], ...]
# (name, channels) of each convolution that has fewer channels than the preset gives it.
Widths = tuple[tuple[str, int], ...]

# SSD300's feature maps (paper, figure 2), used by two presets: 8,732 default boxes.
_FEATURE_MAPS = (38, 19, 10, 5, 3, 1)
_ASPECT_RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
# So that the last map has a cell.
_SMALLEST_INPUT = {
    "ssd_compact": 288, "ssd_compact_atss": 288, "ssd_lite0": 160, "ssd_mobilenet_v2": 160
}  # fmt: skip
_LARGEST_INPUT, _INPUT_STEP = 1024, 32


@dataclass(frozen=True)
class Preset:
    """One detector. Scales are fractions of the image's side; one more than feature maps."""

    name: str
    input_size: int  # side of the square RGB input, pixels
    feature_maps: tuple[int, ...]  # side of each feature map, cells
    scales: tuple[float, ...]  # default box side per feature map, and one past the last
    aspect_ratios: tuple[tuple[float, ...], ...]  # beside 1; each also gives its inverse
    optimizer: str  # "adamw" or "sgd" (momentum 0.9)
    learning_rate: float  # peak, for the batch size below; scaled linearly with another
    batch_size: int  # global, images a step
    epochs: int  # a run is so long, or as long as `steps`, whichever is longer
    weight_decay: float
    zoom_out: float  # largest expansion of the canvas in augmentation, 1 is off
    smallest_crop: float  # side of the smallest crop in augmentation, a fraction of the image's
    steps: int = 0  # what learning takes however few the images are
    warmup: float = 0.02  # share of the run over which the learning rate rises
    final_rate: float = 0.0  # learning rate of the last step, a fraction of the peak
    photometric: bool = True  # distort colours in augmentation
    iou_threshold: float = 0.45  # of NMS: of two boxes of a class that overlap more, one stays
    voting_iou: float = 0.0  # of box voting after NMS: boxes that overlap so much; 0 is none
    matching_iou: float = 0.5  # from here on a default box belongs to an object
    head_norm: bool = True  # batch normalisation in the head; ssd_compact only
    box_loss: Literal["smooth_l1", "giou"] = "smooth_l1"
    box_weight: float = 1.0  # of the box loss beside the class loss
    # 3:1 hard negatives, focal loss, or a score that is the box's own IoU: quality focal loss
    class_loss: Literal["mining", "focal", "quality"] = "mining"
    matching: Literal["overlap", "adaptive"] = "overlap"  # SSD's, or ATSS
    box_shapes: BoxShapes | None = None  # fitted to the data; None is scales and aspect ratios
    widths: Widths = ()  # of convolutions that `pruning` narrowed
    pretrained: str = "none"  # what a run starts from, unless its settings say otherwise
    is_depthwise: bool = False  # most of its work is in or beside depthwise convolutions
    freeze: int = 0  # the backbone stays as it is up to the map of this stride
    resize: Resize = "stretch"  # a photo to the square, or in its own shape onto a grey one

    @property
    def has_background(self) -> bool:
        """Whether scores are a softmax with background, or a sigmoid a class."""
        return self.class_loss != "quality"


def choose_input(preset: Preset, size: int | None, resize: Resize | None) -> Preset:
    """The preset with the input that a command line names; None is the preset's own.

    Raises:
        TrainingError: the preset does not take this size.
    """
    sized = preset if size is None else set_input_size(preset, size)
    return sized if resize is None else replace(sized, resize=resize)


def set_input_size(preset: Preset, size: int) -> Preset:
    """The preset for images of another size, in pixels: its maps follow.

    A default box that is a square of so many cells stays that; all others stay as large in the
    image as they are.

    Raises:
        TrainingError: the preset does not take this size.
    """
    if size == preset.input_size:
        return preset
    if preset.name not in _SMALLEST_INPUT:
        raise TrainingError(
            f"--input-size: {preset.name} is the paper's network, for {preset.input_size} alone: "
            "leave it out, or take another --preset"
        )
    least = _SMALLEST_INPUT[preset.name]
    if size % _INPUT_STEP or not least <= size <= _LARGEST_INPUT:
        raise TrainingError(
            f"--input-size: {preset.name} takes multiples of {_INPUT_STEP} from {least} to "
            f"{_LARGEST_INPUT}, found {size}"
        )
    maps = tuple(math.ceil(size / stride) for stride in (8, 16, 32, 64, 128))
    if preset.name.startswith("ssd_compact"):
        maps = (*maps, maps[-1] - 2)
    sized = replace(preset, input_size=size, feature_maps=maps)
    if preset.matching == "adaptive":
        return replace(sized, box_shapes=_square_shapes(maps))
    return sized


def _square_shapes(feature_maps: tuple[int, ...]) -> BoxShapes:
    """One square of four cells a cell."""
    return tuple(((4 / side, 4 / side),) for side in feature_maps)


# python -m training train data/records --preset ssd_compact --output runs/cells --vertical-flip
# 205 photos on 2 CPU cores that other work shared: 51 minutes, mAP@0.5 0.90 (docs/model-card.md).
SSD_COMPACT = Preset(
    name="ssd_compact",
    input_size=300,
    feature_maps=_FEATURE_MAPS,
    scales=(0.07, 0.18, 0.35, 0.53, 0.71, 0.89, 1.05),
    aspect_ratios=_ASPECT_RATIOS,
    optimizer="adamw",
    learning_rate=2e-3,
    batch_size=16,
    epochs=50,
    steps=1920,  # 150 epochs of 205 photos
    weight_decay=1e-2,
    zoom_out=2.0,
    smallest_crop=0.5,
    final_rate=0.25,  # at rates near 0 it learns the gaps of the annotations by heart
)

# python -m training train data/records --preset ssd_compact_atss --output runs/cells
# The same network as a head of the newer kind trains it: one box a cell, and no `fit`.
SSD_COMPACT_ATSS = replace(
    SSD_COMPACT,
    name="ssd_compact_atss",
    voting_iou=0.85,
    box_loss="giou",
    box_weight=2.0,
    class_loss="quality",
    matching="adaptive",
    box_shapes=_square_shapes(_FEATURE_MAPS),
)

# python -m training train data/records --preset ssd_lite0 --output runs/photos
# One square default box a cell: ATSS finds what belongs to an object whatever its shape.
_LITE0_MAPS = (40, 20, 10, 5, 3)
SSD_LITE0 = Preset(
    name="ssd_lite0",
    input_size=320,
    feature_maps=_LITE0_MAPS,
    scales=(0.1, 0.2, 0.4, 0.8, 1.2, 1.6),
    aspect_ratios=((),) * 5,
    optimizer="adamw",
    learning_rate=1e-3,
    batch_size=16,
    epochs=10,
    steps=600,
    warmup=0.1,
    weight_decay=1e-2,
    zoom_out=2.0,
    smallest_crop=0.5,
    iou_threshold=0.6,
    box_loss="giou",
    box_weight=2.0,
    class_loss="quality",
    matching="adaptive",
    box_shapes=_square_shapes(_LITE0_MAPS),
    pretrained="imagenet",
    is_depthwise=True,
    freeze=8,
)

# python -m training train data/records --preset ssd_mobilenet_v2 --output runs/photos
# The same over MobileNetV2, whose weights Keras downloads. Not trained here, where there was no
# internet: what it reaches is not known.
SSD_MOBILENET_V2 = replace(SSD_LITE0, name="ssd_mobilenet_v2")

# python -m training train data/records --preset ssd300_vgg16 --output runs/vgg16 \
#     --pretrained vgg16_weights_tf_dim_ordering_tf_kernels.h5
# The paper's SSD300 (arXiv 1512.02325, section 3.1). Meant for GPUs; every part is tested against a
# second implementation, and it has not yet been trained to the end. From random weights the peak
# rate is too high: --learning-rate 2e-4. Where it departs from the paper: a cosine in place of
# steps, over about as many epochs; IoU of exactly 0.5 matches, as in the authors' code; boxes
# marked difficult are ignored; an image without objects still teaches three negatives; the class
# head starts at a background prior.
SSD300_VGG16 = Preset(
    name="ssd300_vgg16",
    input_size=300,
    feature_maps=_FEATURE_MAPS,
    scales=(0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075),
    aspect_ratios=_ASPECT_RATIOS,
    optimizer="sgd",
    learning_rate=1e-3,
    batch_size=32,
    epochs=230,
    weight_decay=5e-3,  # the paper's 5e-4 goes through the momentum of 0.9, Keras' does not
    zoom_out=4.0,
    smallest_crop=0.3,
)

PRESETS = {
    preset.name: preset
    for preset in (SSD_COMPACT, SSD_COMPACT_ATSS, SSD_LITE0, SSD_MOBILENET_V2, SSD300_VGG16)
}
