"""Renders photos of blood smears with their boxes, and writes them as a Pascal VOC folder.

The tests train on them and the demo shows them, so that the project carries nobody's data. A
photo is light through a stained smear: background times exp(-optical density), where the optical
densities of all cells add up, hence overlapping cells are darker where they overlap. Sizes and
colours follow photos taken at 100x of 640x480 pixels; other image sizes scale the cells.

A seed gives the same cells on every machine; processors differ in the last bit of a pixel.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from training import voc

RBC, WBC, PLATELET = range(3)
DIAMETERS = {RBC: (82.0, 122.0), WBC: (140.0, 240.0), PLATELET: (28.0, 52.0)}  # pixels at 640x480
# How near two cells' centres may come, as a share of the sum of their radii.
NEARNESS = {RBC: 0.72, WBC: 0.9, PLATELET: 0.97}
BACKGROUND_BGR = (201.0, 207.0, 205.0)
JPEG_QUALITY = 88

# Optical density at full depth, BGR.
HAEMOGLOBIN = np.array([0.28, 0.30, 0.13], np.float32)
RIM = np.array([-0.03, 0.09, 0.05], np.float32)
NUCLEUS = np.array([0.00, 0.78, 0.46], np.float32)
CYTOPLASM = np.array([0.02, 0.27, 0.13], np.float32)
THROMBOCYTE = np.array([0.01, 0.42, 0.34], np.float32)
DUST = np.array([0.22, 0.25, 0.27], np.float32)


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


def run(settings: RenderSettings) -> int:
    """Write the folder; 0, or 1 where the settings or the folder do not allow it."""
    try:
        _check(settings)
        _write(settings)
    except (voc.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{settings.count} images in {settings.output}")
    return 0


def _check(settings: RenderSettings) -> None:
    voc.check_labels(settings.labels)
    for name, least in (("count", 2), ("width", 64), ("height", 64), ("seed", 0)):
        if getattr(settings, name) < least:
            raise voc.DataError(
                f"--{name}: expected {least} or more, found {getattr(settings, name)}"
            )
    if not 0 <= settings.val <= 1:
        raise voc.DataError(f"--val: expected a share of 0 to 1, found {settings.val}")
    if settings.output.exists() and any(settings.output.iterdir()):
        raise voc.DataError(f"{settings.output}: not empty; name a new folder, or empty it")


def _write(settings: RenderSettings) -> None:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (settings.output / part).mkdir(parents=True, exist_ok=True)
    image_ids = [_image_id(number, settings.count) for number in range(1, settings.count + 1)]
    bar = tqdm(image_ids, desc="rendering", unit="image", disable=None)
    for index, image_id in enumerate(bar):
        rng = np.random.default_rng([settings.seed, index])
        image_bgr, boxes_xyxy, classes = render(rng, (settings.width, settings.height))
        (settings.output / f"JPEGImages/{image_id}.jpg").write_bytes(encode(image_bgr))
        names = [settings.labels[kind] for kind in classes]
        xml = annotation_xml(f"{image_id}.jpg", image_bgr.shape[:2], boxes_xyxy, names)
        (settings.output / f"Annotations/{image_id}.xml").write_bytes(xml)
    _write_splits(settings, image_ids)  # last: without it nothing takes the folder for whole


def _image_id(number: int, count: int) -> str:
    return f"smear-{number:0{len(str(count))}d}"


def _write_splits(settings: RenderSettings, image_ids: list[str]) -> None:
    val = min(max(round(len(image_ids) * settings.val), 1), len(image_ids) - 1)
    splits = {"train": image_ids[:-val], "val": image_ids[-val:], "trainval": image_ids}
    for name, ids in splits.items():
        path = settings.output / f"ImageSets/Main/{name}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")


def encode(image_bgr: np.ndarray) -> bytes:
    """The image as a JPEG file."""
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def annotation_xml(
    filename: str, shape: tuple[int, ...], boxes_xyxy: np.ndarray, labels: list[str]
) -> bytes:
    """A Pascal VOC annotation.

    shape: height and width of the image, pixels.
    boxes_xyxy: [N, 4] whole pixels, continuous edges from 0; VOC counts from 1, last included.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = filename
    _append(root, "size", {"width": shape[1], "height": shape[0], "depth": 3})
    for (x1, y1, x2, y2), label in zip(boxes_xyxy.astype(int).tolist(), labels, strict=True):
        element = _append(root, "object", {"name": label, "difficult": 0, "truncated": 0})
        _append(element, "bndbox", {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8")


def _append(parent: ElementTree.Element, tag: str, fields: dict) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, value in fields.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element


def render(
    rng: np.random.Generator, size: tuple[int, int] = (640, 480)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One photo of a smear.

    size: width, height in pixels.

    Returns:
        image_bgr: uint8 [height, width, 3].
        boxes_xyxy: float32 [N, 4], whole pixels, edges from 0, within the image.
        classes: int32 [N]: 0 red cell, 1 white cell, 2 platelet.
    """
    density = np.zeros((size[1], size[0], 3), np.float32)
    boxes, classes = [], []
    for cell in place(rng, size):
        patch, mask = STAINS[cell.kind](rng, cell.radius)
        _add(density, patch, cell)
        boxes.append(_box(mask, cell, density.shape))
        classes.append(cell.kind)
    _add_dust(rng, density)
    image_bgr = _photograph(rng, density)
    return (
        image_bgr,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int32),
    )


def place(rng: np.random.Generator, size: tuple[int, int]) -> list[Cell]:
    """Lay out cells, the large ones first; one that finds no room is left away."""
    counts = {
        WBC: int(rng.choice(3, p=[0.1, 0.75, 0.15])),
        RBC: int(rng.integers(10, 22)),
        PLATELET: int(rng.integers(0, 5)),
    }
    cells: list[Cell] = []
    for kind, count in counts.items():
        for _ in range(count):
            cell = _find_room(rng, size, kind, cells)
            cells += [cell] if cell else []
    return cells


def _find_room(
    rng: np.random.Generator, size: tuple[int, int], kind: int, cells: list[Cell]
) -> Cell | None:
    scale = min(size[0] / 640, size[1] / 480)
    for _ in range(40):
        radius = rng.uniform(*DIAMETERS[kind]) / 2 * scale
        # The border cuts cells, but leaves most of each.
        edge = radius * (0.4 if kind == RBC else 0.8)
        x, y = (float(rng.uniform(edge, side - edge)) for side in size)
        cell = Cell(x, y, float(radius), kind)
        if all(_have_room(cell, other) for other in cells):
            return cell
    return None


def _have_room(a: Cell, b: Cell) -> bool:
    nearness = max(NEARNESS[a.kind], NEARNESS[b.kind])
    return float(np.hypot(a.x - b.x, a.y - b.y)) > nearness * (a.radius + b.radius)


def _add(density: np.ndarray, patch: np.ndarray, cell: Cell) -> None:
    """Add a cell's patch where it lies, as far as that is within the image."""
    (x1, y1, x2, y2), visible = _window(density.shape, patch.shape[0], cell)
    below = density[y1:y2, x1:x2]
    # Where cells overlap photos are darker, but not twice as dark.
    below += patch[visible] * (1 - 0.65 * np.clip(below[..., 1:2] / HAEMOGLOBIN[1], 0, 1))


def _box(mask: np.ndarray, cell: Cell, shape: tuple[int, ...]) -> list[int]:
    """xyxy around what of a cell lies within the image."""
    (x1, y1, _, _), visible = _window(shape, mask.shape[0], cell)
    ys, xs = np.nonzero(mask[visible] > 0.5)
    return [xs.min() + x1, ys.min() + y1, xs.max() + x1 + 1, ys.max() + y1 + 1]


def _window(
    shape: tuple[int, ...], side: int, cell: Cell
) -> tuple[tuple[int, int, int, int], tuple[slice, slice]]:
    """Where a square patch around a cell lies: xyxy in the image, and the slices of the patch."""
    left, top = round(cell.x) - side // 2, round(cell.y) - side // 2
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + side, shape[1]), min(top + side, shape[0])
    return (x1, y1, x2, y2), np.s_[y1 - top : y2 - top, x1 - left : x2 - left]


def _red_cell(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A disc, paler in the middle: the cell is thinner there."""
    rho = _radial(rng, radius, roughness=0.05, stretch=0.14)
    mask = _disc(rho, radius, softness=rng.uniform(1.5, 3.0))
    pale = rng.uniform(0.15, 0.95) if rng.random() < 0.75 else 0.0
    hollow = pale * np.exp(-((rho / rng.uniform(0.42, 0.62)) ** 4))
    depth = rng.uniform(0.75, 1.25) * (1 - hollow) * mask
    rim = np.exp(-(((rho - 0.93) / 0.06) ** 2)) * rng.uniform(0.3, 1.0)
    patch = depth[..., None] * HAEMOGLOBIN + rim[..., None] * RIM
    if rng.random() < 0.25:
        _add_droplet(rng, patch, radius)
    return patch.astype(np.float32), mask


def _add_droplet(rng: np.random.Generator, patch: np.ndarray, radius: float) -> None:
    """A bubble in a red cell that breaks the light: a small dark ring, bright within."""
    x, y = rng.uniform(-0.45, 0.45, 2) * radius
    rho = _radial(rng, radius * rng.uniform(0.09, 0.18), 0.08, 0.3, patch.shape[0], (x, y))
    ring = np.exp(-(((rho - 1) / 0.35) ** 2))[..., None] * RIM * 2.5
    bright = np.exp(-((rho / 0.7) ** 4))[..., None] * np.array([0.22, -0.04, 0.1])
    patch += ring - bright


def _white_cell(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pale grainy cytoplasm around a dark violet nucleus of one to five lobes."""
    rho = _radial(rng, radius, roughness=0.04, stretch=0.1)
    mask = _disc(rho, radius, softness=rng.uniform(2.0, 4.0))
    grains = 1 + 0.22 * _texture(rng, mask.shape, grain=2.0 * radius / 90)
    cytoplasm = mask * rng.uniform(0.35, 1.1) * grains
    nucleus = _nucleus(rng, radius, mask.shape[0]) * mask
    chromatin = 1 + 0.12 * _texture(rng, mask.shape, grain=5.0 * radius / 90)
    dark = nucleus * rng.uniform(0.8, 1.15) * chromatin
    patch = (cytoplasm * (1 - nucleus))[..., None] * CYTOPLASM + dark[..., None] * NUCLEUS
    return patch.astype(np.float32), mask


def _nucleus(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    """[side, side], 0..1: lobes on an arc, each reaching to the next; a single one is large."""
    lobes = int(rng.choice(5, p=[0.2, 0.15, 0.25, 0.25, 0.15])) + 1
    start, step = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.25)
    lobe_radius = radius * (0.62 if lobes == 1 else 0.46 - 0.03 * lobes)
    nucleus = np.zeros((side, side))
    for number in range(lobes):
        distance = radius * rng.uniform(0.05, 0.15) if lobes == 1 else radius * 0.45
        angle = start + number * step
        centre = (distance * np.cos(angle), distance * np.sin(angle))
        rho = _radial(rng, lobe_radius * rng.uniform(0.9, 1.15), 0.08, 0.2, side, centre)
        nucleus = np.maximum(nucleus, _disc(rho, lobe_radius, softness=2.0))
    return nucleus


def _platelet(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A ragged violet speck, darker in the middle."""
    rho = _radial(rng, radius * 0.95, roughness=0.1, stretch=0.15)
    mask = _disc(rho, radius, softness=2.5)
    grains = 1 + 0.2 * _texture(rng, mask.shape, grain=2.0)
    depth = mask * grains * rng.uniform(0.6, 1.3) * (0.45 + 0.75 * np.exp(-((rho / 0.7) ** 2)))
    return (depth[..., None] * THROMBOCYTE).astype(np.float32), mask


STAINS: dict[int, Callable[[np.random.Generator, float], tuple[np.ndarray, np.ndarray]]] = {
    RBC: _red_cell,
    WBC: _white_cell,
    PLATELET: _platelet,
}


def _radial(
    rng: np.random.Generator,
    radius: float,
    roughness: float,
    stretch: float,
    side: int = 0,
    centre: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """[side, side]: the distance from a centre, 1 on a stretched, wavy outline of `radius`."""
    side = side or 2 * int(radius * 1.4 + 4) + 1
    axis = np.arange(side, dtype=np.float32) - side // 2
    x, y = np.meshgrid(axis - float(centre[0]), axis - float(centre[1]))
    turn, ratio = rng.uniform(0, np.pi), 1 + rng.uniform(0, stretch)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    u = (x * cos + y * sin) / ratio
    v = (y * cos - x * sin) * ratio
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for wave in range(2, 6):
        outline += roughness / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 6.28))
    return np.hypot(u, v) / (radius * outline)


def _disc(rho: np.ndarray, radius: float, softness: float) -> np.ndarray:
    """1 within the outline, 0 outside, 0.5 on it; `softness` in pixels."""
    return 0.5 - 0.5 * np.tanh((rho - 1) * radius / softness)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1; `grain` in pixels."""
    noise = cv2.GaussianBlur(_noise(rng, shape), (0, 0), max(grain, 0.5))
    return noise / max(float(noise.std()), 1e-6)


def _add_dust(rng: np.random.Generator, density: np.ndarray) -> None:
    """Blurred grey specks, which are no platelets: they have no violet."""
    height, width = density.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        radius = rng.uniform(1.5, 6.0) * height / 480
        rho = _radial(rng, radius, 0.2, 0.5)
        patch = np.exp(-(rho**2))[..., None] * DUST * rng.uniform(0.3, 1.0)
        cell = Cell(rng.uniform(0, width - 1), rng.uniform(0, height - 1), radius, PLATELET)
        _add(density, patch.astype(np.float32), cell)


def _photograph(rng: np.random.Generator, density: np.ndarray) -> np.ndarray:
    """Light through the smear, the lens and the sensor: uint8 [height, width, 3], BGR."""
    light = _illumination(rng, density.shape[:2]) * np.exp(-density)
    blurred = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.7, 1.5))
    noise = _noise(rng, density.shape)
    grain = 1.2 * noise + 5.0 * cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip(np.rint(blurred + grain), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _illumination(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """[height, width, 3]: the empty slide, tinted, lit from one side, darker at the corners."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    tilt = rng.normal(0, 0.015, 2)
    falloff = 1 - rng.uniform(0.02, 0.08) * (x**2 + y**2) / 2 + tilt[0] * x + tilt[1] * y
    tint = np.array(BACKGROUND_BGR) * rng.uniform(0.97, 1.06) * rng.normal(1, 0.006, 3)
    return (falloff[..., None] * tint).astype(np.float32)
