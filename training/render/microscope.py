"""Lamp, lens and sensor: the photo of a smear whose optical densities are known.

The numbers follow the 205 photos of the BCCD data set's `train` split, measured on their empty
slide and at the edges of lone cells; most are drawn with a wider spread than was measured.
"""

import cv2
import numpy as np

BACKGROUND_BGR = (196.0, 201.0, 199.0)  # medians; 10th to 90th percentile: 3 to 4.5 either side
TILT = (0.009, 0.0325)  # the light grows to the right and to the bottom, by this share
JPEG_QUALITY = 75  # libjpeg's tables of quality 75, 4:2:0


def photograph(rng: np.random.Generator, density: np.ndarray) -> np.ndarray:
    """The photo: uint8 [height, width, 3], BGR.

    density: float32 [height, width, 3], BGR.
    """
    scale = min(density.shape[1] / 640, density.shape[0] / 480)
    light = _illumination(rng, density.shape[:2]) * np.exp(-density)
    seen = _sharpen(rng, _lens(rng, light, scale), scale)
    return np.clip(np.rint(seen + _noise(rng, density.shape)), 0, 255).astype(np.uint8)


def encode(image_bgr: np.ndarray) -> bytes:
    """The image as a JPEG file, as compressed as the photos are."""
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _illumination(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """[height, width, 3]: the empty slide, tinted, lit from one side, darker at the corners."""
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    right, down = (float(rng.normal(mean, 0.015)) for mean in TILT)
    falloff = 1 - float(rng.uniform(0, 0.045)) * (x**2 + y**2) + right * x + down * y
    channels = []
    for tint in np.array(BACKGROUND_BGR) * rng.normal(1, 0.018) * rng.normal(1, 0.012, 3):
        lean_x, lean_y = rng.normal(0, 0.008, 2).tolist()  # the colour changes across the slide
        channels.append((falloff + lean_x * x + lean_y * y) * float(tint))
    return cv2.merge(channels)


def _lens(rng: np.random.Generator, light: np.ndarray, scale: float) -> np.ndarray:
    """Out of focus, blue more than green, and blue shifted: cells have violet and yellow edges."""
    blur = float(np.clip(rng.lognormal(0.15, 0.35), 0.6, 3.5)) * scale
    blue_blur = np.hypot(blur, rng.uniform(0.5, 4.5) * scale)
    # Blue's shift against green: measured -1 to 0 to the right, 0 to 5 down.
    shifts = (rng.normal((-0.6, 1.8), (1.0, 2.0)), np.zeros(2), rng.normal(0, 0.3, 2))
    channels = []
    for channel, (dx, dy), sigma in zip(
        cv2.split(light), shifts, (blue_blur, blur, blur * 1.1), strict=True
    ):
        blurred = cv2.GaussianBlur(channel, (0, 0), max(float(sigma), 0.3))
        move = np.array([[1, 0, dx * scale], [0, 1, dy * scale]])
        size = (light.shape[1], light.shape[0])
        channels.append(cv2.warpAffine(blurred, move, size, borderMode=cv2.BORDER_REPLICATE))
    return cv2.merge(channels)


def _sharpen(rng: np.random.Generator, light: np.ndarray, scale: float) -> np.ndarray:
    """The camera sharpens: a bright seam around dark cells."""
    small = cv2.resize(light, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(1.5, 3) * max(scale, 0.1))
    wide = cv2.resize(small, (light.shape[1], light.shape[0]))
    return light + float(rng.uniform(0.05, 0.4)) * (light - wide)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Grain, coarser from line to line than along them, and coarser and stronger in blue."""
    noise = rng.standard_normal(shape, np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), 0.75, sigmaY=1.3)
    coarse = cv2.GaussianBlur(noise[..., 0], (0, 0), 1.7)
    fine[..., 0] = coarse * 3.6
    return fine * float(rng.lognormal(1.9, 0.25))
