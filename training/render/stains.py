"""How the cells of a stained smear take light away: optical densities, blue, green and red.

Each drawing is a square patch around a cell's centre, float32 [side, side, 3], with its mask,
[side, side], 1 within the cell, 0 outside, 0.5 on its outline. The densities were measured on the
205 photos of the BCCD data set's `train` split: the logarithm of the empty slide of each photo
over its cells, 10th to 90th percentile; the spread between photos is drawn a little wider.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

RBC, WBC, PLATELET = range(3)

CYTOPLASM = np.array([0.03, 0.23, 0.11], np.float32)  # measured -.02..08, .19...26, .07...18
GREY_CYTOPLASM = np.array([0.06, 0.21, 0.15], np.float32)
GRANULES = np.array([0.20, 0.44, 0.09], np.float32)
RIM = np.array([-0.03, 0.09, 0.05], np.float32)
GLINT = np.array([0.30, 0.12, 0.20], np.float32)
SMUDGE = np.array([0.22, 0.20, 0.26], np.float32)
# The photos' pixels are a little wider than high: red cells measure 1.04 by 1, white ones 1.06.
PIXEL_ASPECT = 1.045

Drawing = tuple[np.ndarray, np.ndarray]  # patch and mask


@dataclasses.dataclass(frozen=True)
class Stain:
    """What all cells of one photo share."""

    scale: float
    """Size of its cells against those of a photo of 640x480."""
    haemoglobin: np.ndarray
    """Optical density of a red cell, BGR [3]."""
    pallor: float
    """Share of the red cells that are pale in the middle."""
    droplets: float
    """Refracting droplets a red cell has, on average."""
    nucleus: float
    """Strength of the nuclei's stain, about 1."""
    platelet: np.ndarray
    """Optical density of a platelet's middle, BGR [3]."""
    merging: float
    """How little overlapping cells add up, 0 (densities add) to 1 (the denser one hides)."""


def stain(rng: np.random.Generator, scale: float = 1.0) -> Stain:
    """One laboratory's stain and one smear's thickness: thick ones are brown, flat, and bubble."""
    thickness = rng.random()
    # Measured at the cells: green .17 to .28, blue .54 to 1.04 of it, red .27 to .49 of it.
    green = float(np.clip(rng.normal(0.225 + 0.045 * thickness, 0.035), 0.12, 0.36))
    blue = green * (0.68 + 0.4 * thickness + rng.normal(0, 0.1))
    red = green * (0.49 - 0.2 * thickness + rng.normal(0, 0.05))
    violet = float(np.clip(rng.lognormal(-0.8, 0.3), 0.2, 0.85))
    return Stain(
        scale=scale,
        haemoglobin=np.array([blue, green, red], np.float32),
        pallor=rng.uniform(0.6, 1.0) - 0.35 * thickness,
        droplets=float(0.02 + 1.2 * thickness**2 * rng.random()),
        nucleus=float(np.clip(rng.normal(1.0, 0.13), 0.7, 1.4)),
        platelet=np.array([rng.uniform(-0.05, 0.06), violet, violet * rng.uniform(0.5, 0.95)]),
        merging=float(np.clip(rng.normal(0.5 + 0.3 * thickness, 0.2), 0.1, 0.95)),
    )


def add(density: np.ndarray, patch: np.ndarray, style: Stain) -> None:
    """Lay a patch over a window of the photo, in place; both float32 [h, w, 3]."""
    density += patch - style.merging * np.maximum(np.minimum(density, patch), 0)


def _red_cell(rng: np.random.Generator, radius: float, style: Stain) -> Drawing:
    """A _disc, paler in the middle where the cell is thinner; some are bent, torn or spiked."""
    stretch = rng.uniform(0.3, 0.6) if rng.random() < 0.07 else rng.uniform(0, 0.32)
    rho = _radial(rng, radius, 0.03 + 0.2 * rng.random() ** 2, stretch, outline=_odd_outline(rng))
    mask = _disc(rho, radius, softness=radius * rng.uniform(0.03, 0.09))
    full = rng.normal(1, 0.16) * (rng.uniform(0.35, 0.8) if rng.random() < 0.12 else 1)
    depth = full * (1 - _hollow(rng, radius, rho, style)) * mask
    rim = np.exp(-(((rho - 0.9) / rng.uniform(0.05, 0.15)) ** 2)) * rng.uniform(0, 0.8)
    patch = depth[..., None] * style.haemoglobin + rim[..., None] * RIM
    for _ in range(min(int(rng.poisson(style.droplets)), 4)):
        _add_droplet(rng, patch, radius)
    return patch.astype(np.float32), mask


def _odd_outline(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
    """Now and then a tail (a teardrop), a flat side, or spikes all around (a crenated cell)."""
    turn, odd = rng.uniform(-np.pi, np.pi), rng.random()
    if odd < 0.04:
        return lambda angle: 0.45 * np.exp((np.cos(angle - turn) - 1) / 0.06)
    if odd < 0.2:
        return lambda angle: -0.25 * np.exp((np.cos(angle - turn) - 1) / 0.2)
    if odd < 0.215:
        spikes = int(rng.integers(9, 15))
        return lambda angle: 0.04 * np.cos(spikes * angle + turn)
    return None


def _hollow(rng: np.random.Generator, radius: float, rho: np.ndarray, style: Stain) -> np.ndarray:
    """[side, side], 0..1: how much thinner than at its rim the cell is."""
    pale = float(rng.random() < style.pallor) * rng.uniform(0.5, 1.0)
    width, steep = rng.uniform(0.2, 0.45) + 0.2 * pale, rng.uniform(2, 7)
    if rng.random() < 0.5:
        hollow = np.exp(-((rho / width) ** steep))
    else:  # of its own shape: off the middle, or a slit
        slit = 0.8 if rng.random() < 0.2 else 0.2
        centre = tuple(rng.normal(0, 0.08, 2) * radius)
        own = _radial(rng, radius * width, 0.1, slit, len(rho), centre)
        hollow = np.exp(-(own**steep))
    if rng.random() < 0.06:  # a target cell: thick again in the very middle
        hollow -= 0.8 * np.exp(-((rho / 0.25) ** 2))
    return pale * hollow


def _add_droplet(rng: np.random.Generator, patch: np.ndarray, radius: float) -> None:
    """A bubble in a red cell that breaks the light: a small dark ring, bright within."""
    centre = tuple(rng.uniform(-0.55, 0.55, 2) * radius)
    small = radius * rng.uniform(0.06, 0.22)
    rho = _radial(rng, small, 0.2, rng.choice([0.2, 0.9]), len(patch), centre)
    ring = np.exp(-(((rho - 1) / 0.4) ** 2))[..., None] * RIM * rng.uniform(1, 6)
    bright = np.exp(-((rho / 0.75) ** 4))[..., None] * GLINT * rng.uniform(-0.4, 1.3)
    patch += ring - bright


def _white_cell(rng: np.random.Generator, radius: float, style: Stain) -> Drawing:
    """A violet nucleus in its cytoplasm, of the kinds in WHITE_CELLS; small ones stain darker."""
    # 0 for cells 170 pixels wide or wider, 0.4 for the smallest.
    small = max(0.75 - radius / (113 * style.scale), 0.0)
    kind = _white_kind(rng, small)
    burst = kind == "eosinophil" and rng.random() < 0.2  # its grains spill
    rho = _radial(rng, radius, 0.3 if burst else rng.uniform(0.03, 0.18), stretch=0.12)
    mask = _disc(rho, radius, softness=radius * (0.25 if burst else rng.uniform(0.02, 0.06)))
    lobes = WHITE_CELLS[kind][1](rng, radius * (1 + 0.35 * small), len(mask)) * mask
    dark = lobes * (1 + rng.uniform(0.06, 0.2) * _texture(rng, mask.shape, grain=0.045 * radius))
    body = _cytoplasm(rng, kind, radius, mask) * (1 - lobes)[..., None]
    patch = body + dark[..., None] * _chromatin(rng, small, style)
    return patch.astype(np.float32), mask


def _white_kind(rng: np.random.Generator, small: float) -> str:
    if small > 0.1 and rng.random() < 0.4:
        return "lymphocyte"  # the other small ones are shrunken
    kind = str(rng.choice(list(WHITE_CELLS), p=[share for share, _ in WHITE_CELLS.values()]))
    return "monocyte" if kind == "lymphocyte" and small == 0 else kind


def _chromatin(rng: np.random.Generator, small: float, style: Stain) -> np.ndarray:
    """Optical density of a nucleus, BGR; measured -.12...03, .51...81, .24...54."""
    strength = style.nucleus * rng.normal(1.0, 0.06) + small
    blue = -0.09 + 0.35 * (strength - 1) + rng.normal(0, 0.03)
    return np.array([blue, 0.66 * strength, 0.36 * strength**1.5 * rng.normal(1, 0.08)])


def _cytoplasm(rng: np.random.Generator, kind: str, radius: float, mask: np.ndarray) -> np.ndarray:
    """[side, side, 3]: pink and fine in neutrophils, coarse red grains in eosinophils."""
    fine = 1 + rng.uniform(0.05, 0.25) * _texture(rng, mask.shape, grain=2.0 * radius / 90)
    tint = GREY_CYTOPLASM if kind in ("lymphocyte", "monocyte") else CYTOPLASM
    body = (mask * fine * rng.uniform(0.45, 1.25))[..., None] * tint
    if kind == "eosinophil":
        grains = _texture(rng, mask.shape, grain=rng.uniform(1.5, 3.0) * radius / 90)
        solid = 1 / (1 + np.exp(-2 * (grains + rng.uniform(-0.2, 1.2))))
        body = body * 0.8 + (mask * solid * rng.uniform(0.5, 1.0))[..., None] * GRANULES
    elif rng.random() < 0.3:  # vacuoles
        holes = _texture(rng, mask.shape, grain=5.0 * radius / 90)
        body = body * (1 / (1 + np.exp(5 * (holes - 1.8))))[..., None]
    return body


def _segmented(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    """Two to six lobes on an arc, more or less apart: a neutrophil's nucleus."""
    count = int(rng.choice([2, 3, 4, 5, 6], p=[0.15, 0.3, 0.3, 0.2, 0.05]))
    lobe, ring = rng.uniform(0.25, 0.3) + 0.4 / count**2, rng.uniform(0.46, 0.58)
    step = min(rng.uniform(1.5, 2.1) * lobe / ring, 5.2 / count)
    return _lobes(rng, radius, side, count, step, lobe, ring)


def _bilobed(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    count = int(rng.choice([2, 2, 3]))
    return _lobes(rng, radius, side, count, rng.uniform(1.2, 2.4), rng.uniform(0.34, 0.44), 0.5)


def _kidney(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    return _lobes(rng, radius, side, 4, rng.uniform(0.5, 0.8), rng.uniform(0.42, 0.5), 0.36)


def _round(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    return _lobes(rng, radius, side, 1, 0.0, rng.uniform(0.78, 0.97), 0.05)


def _smudge(rng: np.random.Generator, radius: float, side: int) -> np.ndarray:
    """A burst cell: a nucleus without an outline, pale and frayed."""
    rho = _radial(rng, radius * 0.85, 0.4, 0.4, side)
    return np.clip(_disc(rho, radius, softness=radius * 0.15), 0, 1) * rng.uniform(0.6, 0.9)


def _lobes(
    rng: np.random.Generator,
    radius: float,
    side: int,
    count: int,
    step: float,
    lobe: float,
    ring: float,
) -> np.ndarray:
    """[side, side], 0..1: `count` lobes that flow together, `step` radians apart on a `ring`.

    lobe, ring: radii, as shares of the cell's.
    """
    turn = rng.uniform(0, 2 * np.pi)
    field = np.zeros((side, side), np.float32)
    for number in range(count):
        angle, distance = turn + number * step, radius * ring * rng.uniform(0.75, 1.2)
        centre = (distance * np.cos(angle), distance * np.sin(angle))
        rho = _radial(rng, radius * lobe * rng.uniform(0.85, 1.15), 0.1, 0.3, side, centre)
        field += np.exp(-np.log(2) * rho**4)
    return 1 / (1 + np.exp((0.5 - field) * rng.uniform(10, 25)))


# Share of each kind, about as in 60 cells of the photos' 213, and what draws its nucleus.
WHITE_CELLS: dict[str, tuple[float, Callable[[np.random.Generator, float, int], np.ndarray]]] = {
    "neutrophil": (0.56, _segmented),
    "eosinophil": (0.22, _bilobed),
    "lymphocyte": (0.1, _round),
    "monocyte": (0.09, _kidney),
    "smudge": (0.03, _smudge),
}


def platelet(rng: np.random.Generator, radius: float, style: Stain) -> Drawing:
    """A blurred violet speck, often in a pale halo; `radius` is where it is half as dense."""
    rho = _radial(rng, radius, roughness=0.15, stretch=0.28, room=2.4)
    steep = rng.uniform(1.4, 3.5)
    depth = np.exp(-np.log(2) * rho**steep) * rng.lognormal(0, 0.2)
    depth *= 1 + rng.uniform(0, 0.3) * _texture(rng, rho.shape, grain=2.5 * radius / 12)
    halo = np.exp(-((rho / rng.uniform(1.5, 2.0)) ** 4)) * rng.uniform(0, 0.08)
    patch = depth[..., None] * style.platelet + halo[..., None] * CYTOPLASM / CYTOPLASM[1]
    return patch.astype(np.float32), np.exp(-np.log(2) * rho**2)


DRAWINGS: dict[int, Callable[[np.random.Generator, float, Stain], Drawing]] = {
    RBC: _red_cell,
    WBC: _white_cell,
    PLATELET: platelet,
}


def dirt(rng: np.random.Generator, scale: float) -> np.ndarray:
    """A grey smudge or a small ring on the optics, [side, side, 3]: no cell, it has no violet."""
    if rng.random() < 0.3:
        rho = _radial(rng, rng.uniform(4, 12) * scale, 0.3, 0.5, room=2.2)
        depth = np.exp(-(rho**2)) * rng.uniform(0.3, 1.3)
    else:
        rho = _radial(rng, rng.uniform(2.5, 5) * scale, 0.1, 0.1, room=2.2)
        depth = (np.exp(-(((rho - 1) / 0.4) ** 2)) - 0.8 * np.exp(-(rho**2))) * 0.45 * rng.random()
    return (depth[..., None] * SMUDGE).astype(np.float32)


def _radial(
    rng: np.random.Generator,
    radius: float,
    roughness: float,
    stretch: float,
    side: int = 0,
    centre: tuple[float, ...] = (0.0, 0.0),
    outline: Callable[[np.ndarray], np.ndarray] | None = None,
    room: float = 1.5,
) -> np.ndarray:
    """[side, side]: the distance from a centre, 1 on a stretched, wavy outline of `radius`."""
    side = side or 2 * int(radius * room + 4) + 1
    axis = np.arange(side, dtype=np.float32) - side // 2
    squeeze = float(np.sqrt(PIXEL_ASPECT))
    x, y = (axis - float(centre[0])) / squeeze, (axis[:, None] - float(centre[1])) * squeeze
    turn, ratio = rng.uniform(0, np.pi), np.sqrt(1 + stretch * abs(rng.normal()))
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    u, v = (x * cos + y * sin) / float(ratio), (y * cos - x * sin) * float(ratio)
    distance, angle = cv2.cartToPolar(u, v)
    reach: np.ndarray = np.ones_like(angle) if outline is None else 1 + outline(angle)
    for wave in range(2, 5):
        swing, phase = float(roughness / wave * rng.normal()), float(rng.uniform(0, 6.28))
        reach += swing * np.cos(wave * angle + phase)
    return distance / (radius * np.maximum(reach, 0.3))


def _disc(rho: np.ndarray, radius: float, softness: float) -> np.ndarray:
    """1 within the outline, 0 outside, 0.5 on it; `softness` in pixels."""
    return 0.5 - 0.5 * np.tanh((rho - 1) * radius / softness)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1; `grain` in pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), max(grain, 0.5))
    return noise / max(float(noise.std()), 1e-6)
