"""Detects objects in a photo on the device itself, with LiteRT; writes a line of JSON for each.

    pip install ai-edge-litert opencv-python-headless
    python detect.py ARTIFACT photo.jpg

ARTIFACT is the folder that `python -m training export --format tflite` writes; of its files
model.tflite, labels.txt and card.json are needed. The best object comes first.
"""

import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIDES = ("x1", "y1", "x2", "y2")
SCORE_THRESHOLD = 0.5  # of what to show, unless the card has one for each class
GREY = 127  # around a photo that is not stretched


def read_photo(path: str) -> np.ndarray:
    """A photo upright, as its EXIF says: uint8 RGB [height, width, 3]."""
    photo = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    if photo is None:
        sys.exit(f"{path}: no image that OpenCV reads")
    return photo


def resize_photo(photo: np.ndarray, size: int, resize: str) -> np.ndarray:
    """What the network sees, as the server makes it: uint8 [size, size, 3].

    Stretched, or letterboxed: in its own shape in the middle of grey.
    """
    height, width = photo.shape[:2]
    step = (min if resize == "stretch" else max)(height, width) / size  # pixels for one of these
    part = next((each for each in (8, 4, 2) if step >= max(4, 1.25 * each)), 1)
    if part > 1:  # a large photo is averaged first
        shrunk = (math.ceil(width / part), math.ceil(height / part))
        photo = cv2.resize(photo, shrunk, interpolation=cv2.INTER_AREA)
    if resize == "stretch":
        return cv2.resize(photo, (size, size), interpolation=cv2.INTER_LINEAR)
    step /= part
    shape = np.array([width, height]) / part
    left, top = (shape - step * (size - 1) - 1) / 2
    image = cv2.warpAffine(
        photo,
        np.array([[step, 0, left], [0, step, top]]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    across, down = np.ceil((size - shape / step - 1) / 2).astype(int)
    image[:, :across] = image[:, size - across :] = GREY
    image[:down] = image[size - down :] = GREY
    return image


def to_pixels(boxes: np.ndarray, shape: tuple[int, ...], resize: str) -> np.ndarray:
    """Boxes x1, y1, x2, y2 from 0..1 of the network's input to pixels of the photo, [N, 4]."""
    extent = np.array([shape[1], shape[0]] * 2, np.float32)
    if resize == "stretch":
        return boxes * extent
    side = extent.max()
    return np.clip(boxes * side - (side - extent) / 2, 0, extent)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, card: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Non-maximum suppression in each class: boxes [N, 4], scores [N], classes [N], best first.

    Args:
        boxes: [K, 4], 0..1 of the network's input.
        scores: [K, classes].
    """
    rows, classes = np.nonzero(scores > np.float32(card.get("score_thresholds", SCORE_THRESHOLD)))
    found, best = boxes[rows], scores[rows, classes]
    xywh = np.hstack([found[:, :2], found[:, 2:] - found[:, :2]])
    given = xywh.tolist(), best.tolist(), classes.tolist(), 0.0, card["iou_threshold"]
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(*given), int)
    found, best, classes = found[kept], best[kept], classes[kept]
    if card["voting_iou"]:
        pairs = zip(found, classes, strict=True)
        found = np.array([vote(box, boxes, scores[:, n], card["voting_iou"]) for box, n in pairs])
    return found.reshape(-1, 4), best, classes


def vote(box: np.ndarray, boxes: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """The mean, by score, of all boxes that overlap one by this IoU at least: box voting."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - common
    weights = np.where(common >= least * areas, scores, 0)
    return weights @ boxes / weights.sum()


def main(artifact: Path, path: str) -> None:
    card = json.loads((artifact / "card.json").read_text())
    labels = (artifact / "labels.txt").read_text().splitlines()
    network = Interpreter(str(artifact / "model.tflite"), num_threads=2).get_signature_runner()
    photo = read_photo(path)
    image = resize_photo(photo, card["input_size"], card["resize"])
    answer = network(images=image[None])  # boxes [1, K, 4], scores [1, K, classes]
    boxes, scores, classes = suppress(answer["boxes"][0], answer["scores"][0], card)
    boxes = to_pixels(boxes, photo.shape, card["resize"])
    for box, score, n in zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True):
        sides = {key: round(side, 3) for key, side in zip(SIDES, box, strict=True)}
        print(json.dumps({"label": labels[n], "score": round(score, 5), **sides}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python detect.py ARTIFACT PHOTO", file=sys.stderr)
        sys.exit(2)
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
