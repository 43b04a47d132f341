"""Renders photos of blood smears with their boxes, and writes them as a Pascal VOC folder.

The tests train on them, a network can be pretrained on them, and the demo shows them, so that the
project carries nobody's data. A photo is light through a stained smear: `stains` knows what a cell
takes from the light, `microscope` what lens and sensor do to it, and this file where cells lie.
Sizes follow photos taken at 100x of 640x480 pixels; other image sizes scale the cells.

A seed gives the same cells on every machine; processors differ in the last bit of a pixel.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from training.data import annotations, problems
from training.data.formats.voc_writer import encode_voc
from training.render import microscope, stains
from training.render.stains import PLATELET, RBC, WBC

# All below in pixels at 640x480, from the boxes of the BCCD data set's `train` split (205 photos),
# whose people left room around the cells, as the boxes here do: mean and deviation per side.
MARGINS = {RBC: (7.5, 2.0), WBC: (12.0, 3.5), PLATELET: (10.0, 2.0)}
RED_DIAMETER = (91.0, 6.0, 0.09)  # mean, its deviation between photos, and within one as a share
WHITE_DIAMETERS = (80.0, 108.0, 136.0, 176.0, 198.0, 214.0, 236.0)  # at the quantiles below
WHITE_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PLATELET_DIAMETER = (20.0, 0.28)  # median, and deviation of its logarithm
# How near two cells' centres may come, as a share of the sum of their radii.
NEARNESS = {RBC: 0.55, WBC: 0.95, PLATELET: 0.95}
APART = 0.9  # the same for red cells that lie by themselves, not in a clump


@dataclasses.dataclass(frozen=True)
class RenderSettings:
    """Render blood smears, as a Pascal VOC folder with the splits train, val and trainval."""

    output: tyro.conf.Positional[Path]
    """Folder to write to; it has to be new or empty."""
    count: int = 20
    """Images, 2 or more."""
    val: float = 0.2
    """Share of the images that goes into val, 0 to 1; each split gets one image at least."""
    seed: int = 0
    """The same seed gives the same cells."""
    labels: tuple[str, str, str] = ("RBC", "WBC", "Platelets")
    """Names for red cells, white cells and platelets."""
    width: int = 640
    """Pixels, 64 or more."""
    height: int = 480
    """Pixels, 64 or more."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """Where a cell lies: centre and radius in pixels, and its class."""

    x: float
    y: float
    radius: float
    kind: int


def render_smears(settings: RenderSettings) -> int:
    """Write the folder.

    Raises:
        DataError: the settings or the folder do not allow it.
    """
    _check_settings(settings)
    with _all_or_none(settings.output):
        _write_folder(settings)
    print(f"{settings.count} images in {settings.output}")
    return 0


def _check_settings(settings: RenderSettings) -> None:
    annotations.check_labels(settings.labels)
    for name, least in (("count", 2), ("width", 64), ("height", 64), ("seed", 0)):
        if getattr(settings, name) < least:
            raise problems.DataError(
                f"--{name}: expected {least} or more, found {getattr(settings, name)}"
            )
    if not 0 <= settings.val <= 1:
        raise problems.DataError(f"--val: expected a share of 0 to 1, found {settings.val}")
    if settings.output.exists() and any(settings.output.iterdir()):
        raise problems.DataError(f"{settings.output}: not empty; name a new folder, or empty it")


def _write_folder(settings: RenderSettings) -> None:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (settings.output / part).mkdir(parents=True, exist_ok=True)
    image_ids = [_image_id(number, settings.count) for number in range(1, settings.count + 1)]
    bar = tqdm(image_ids, desc="rendering", unit="image", disable=None)
    for index, image_id in enumerate(bar):
        rng = np.random.default_rng([settings.seed, index])
        image_bgr, boxes_xyxy, classes = render_photo(rng, (settings.width, settings.height))
        (settings.output / f"JPEGImages/{image_id}.jpg").write_bytes(microscope.encode(image_bgr))
        names = [settings.labels[kind] for kind in classes]
        xml = encode_voc(f"{image_id}.jpg", image_bgr.shape[:2], boxes_xyxy, names)
        (settings.output / f"Annotations/{image_id}.xml").write_bytes(xml)
    _write_splits(settings, image_ids)  # last: without it nothing takes the folder for whole


@contextlib.contextmanager
def _all_or_none(output: Path) -> Iterator[None]:
    """What a full disk cut short is removed again: the folder was new or empty."""
    try:
        yield
    except OSError:
        for part in ("Annotations", "JPEGImages", "ImageSets"):
            shutil.rmtree(output / part, ignore_errors=True)
        raise


def _image_id(number: int, count: int) -> str:
    return f"smear-{number:0{len(str(count))}d}"


def _write_splits(settings: RenderSettings, image_ids: list[str]) -> None:
    val = min(max(round(len(image_ids) * settings.val), 1), len(image_ids) - 1)
    splits = {"train": image_ids[:-val], "val": image_ids[-val:], "trainval": image_ids}
    for name, ids in splits.items():
        path = settings.output / f"ImageSets/Main/{name}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")


def render_photo(
    rng: np.random.Generator, size: tuple[int, int] = (640, 480)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One photo of a smear.

    size: width, height in pixels.

    Returns:
        image_bgr: uint8 [height, width, 3].
        boxes_xyxy: float32 [N, 4], whole pixels, edges from 0, within the image, with MARGINS.
        classes: int32 [N]: 0 red cell, 1 white cell, 2 platelet.
    """
    style = stains.stain(rng, _scale(size))
    density = np.zeros((size[1], size[0], 3), np.float32)
    boxes, classes = [], []
    for cell in place_cells(rng, size):
        patch, mask = stains.DRAWINGS[cell.kind](rng, cell.radius, style)
        add_patch(density, patch, cell, style)
        margins = np.maximum(rng.normal(*MARGINS[cell.kind], 4), 1) * style.scale
        boxes.append(visible_box(mask, cell, density.shape, margins))
        classes.append(cell.kind)
    _add_dirt(rng, density, style)
    return (
        microscope.photograph(rng, density),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int32),
    )


def _scale(size: tuple[int, int]) -> float:
    return min(size[0] / 640, size[1] / 480)


def place_cells(rng: np.random.Generator, size: tuple[int, int]) -> list[Cell]:
    """Lay out cells, the large ones first; one that finds no room is left away.

    Red cells clump, more in some photos than in others.
    """
    radii = {kind: RADII[kind](rng) * _scale(size) for kind in (WBC, RBC, PLATELET)}
    clumping = rng.uniform(0.05, 0.85)
    cells: list[Cell] = []
    for kind, kind_radii in radii.items():
        for radius in kind_radii:
            cell = _find_room(rng, size, kind, float(radius), cells, clumping)
            cells += [cell] if cell else []
    return cells


def _white_radii(rng: np.random.Generator) -> np.ndarray:
    count = rng.choice(3, p=[0.04, 0.88, 0.08])  # the photos: 1, 194 and 10 of 205
    return np.interp(rng.random(count), WHITE_QUANTILES, WHITE_DIAMETERS) / 2


def _red_radii(rng: np.random.Generator) -> np.ndarray:
    """Annotated are 12 a photo, 9 to 15 in most; the many that nobody annotated count here."""
    mean, between, within = RED_DIAMETER
    count = int(np.clip(rng.normal(23, 5), 3, 36))
    return rng.normal(mean, between) * rng.normal(1, within, count).clip(0.7, 1.35) / 2


def _platelet_radii(rng: np.random.Generator) -> np.ndarray:
    """The photos have 1.0 on average, 43 of 100 have none; more are drawn, to learn from."""
    median, spread = PLATELET_DIAMETER
    diameters = median * rng.lognormal(0, spread, min(int(rng.poisson(rng.choice([0.5, 3]))), 8))
    return diameters.clip(11, 50) / 2


RADII = {WBC: _white_radii, RBC: _red_radii, PLATELET: _platelet_radii}


def _find_room(
    rng: np.random.Generator,
    size: tuple[int, int],
    kind: int,
    radius: float,
    cells: list[Cell],
    clumping: float,
) -> Cell | None:
    reds = [cell for cell in cells if cell.kind == RBC]
    # The border cuts cells, but leaves nearly half of each.
    edge = radius * {RBC: 0.1, WBC: 0.7, PLATELET: 0.5}[kind]
    for _ in range(30):
        clumped = kind == RBC and bool(reds) and rng.random() < clumping
        if clumped:
            x, y = _beside(rng, reds[int(rng.integers(len(reds)))], radius)
        else:
            x, y = (float(rng.uniform(edge, side - edge)) for side in size)
        inside = edge <= x <= size[0] - edge and edge <= y <= size[1] - edge
        cell = Cell(x, y, radius, kind)
        near = NEARNESS[kind] if clumped or kind != RBC else APART
        if inside and all(have_room(cell, other, near) for other in cells):
            return cell
    return None


def _beside(rng: np.random.Generator, other: Cell, radius: float) -> tuple[float, float]:
    """Where a cell touches another, or lies on it."""
    distance = (radius + other.radius) * rng.uniform(0.6, 1.05)
    angle = rng.uniform(0, 2 * np.pi)
    return other.x + float(distance * np.cos(angle)), other.y + float(distance * np.sin(angle))


def have_room(a: Cell, b: Cell, nearness: float = 0) -> bool:
    nearness = max(NEARNESS[a.kind], NEARNESS[b.kind], nearness)
    return float(np.hypot(a.x - b.x, a.y - b.y)) > nearness * (a.radius + b.radius)


def add_patch(density: np.ndarray, patch: np.ndarray, cell: Cell, style: stains.Stain) -> None:
    """Add a cell's patch where it lies, as far as that is within the image."""
    (x1, y1, x2, y2), visible = _window(density.shape, patch.shape[0], cell)
    stains.add(density[y1:y2, x1:x2], patch[visible], style)


def visible_box(
    mask: np.ndarray, cell: Cell, shape: tuple[int, ...], margins: np.ndarray
) -> list[int]:
    """xyxy around what of a cell lies within the image, with margins: left, top, right, bottom."""
    (x1, y1, _, _), visible = _window(shape, mask.shape[0], cell)
    ys, xs = np.nonzero(mask[visible] > 0.5)
    left, top, right, bottom = np.rint(margins).astype(int).tolist()
    return [
        max(xs.min() + x1 - left, 0),
        max(ys.min() + y1 - top, 0),
        min(xs.max() + x1 + 1 + right, shape[1]),
        min(ys.max() + y1 + 1 + bottom, shape[0]),
    ]


def _window(
    shape: tuple[int, ...], side: int, cell: Cell
) -> tuple[tuple[int, int, int, int], tuple[slice, slice]]:
    """Where a square patch around a cell lies: xyxy in the image, and the slices of the patch."""
    left, top = round(cell.x) - side // 2, round(cell.y) - side // 2
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + side, shape[1]), min(top + side, shape[0])
    return (x1, y1, x2, y2), np.s_[y1 - top : y2 - top, x1 - left : x2 - left]


def _add_dirt(rng: np.random.Generator, density: np.ndarray, style: stains.Stain) -> None:
    height, width = density.shape[:2]
    for _ in range(int(rng.integers(0, 13))):
        patch = stains.dirt(rng, _scale((width, height)))
        cell = Cell(rng.uniform(0, width - 1), rng.uniform(0, height - 1), 0, PLATELET)
        add_patch(density, patch, cell, style)
