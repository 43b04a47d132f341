"""What the served steps measure on a validation set: what `serving drift` compares live with.

A card's "reference":

    images                            how many were measured
    trained_on                        how many of the split the network was trained on
    score_threshold, iou_threshold    what detections were filtered with, as they are served
    score_thresholds                  the same by class, in place of score_threshold; may be absent
    statistics                        a histogram by its name in /metrics, without its `ssd_`:
                                      `edges`, the largest value of each bin but the last, and
                                      `counts`; of detections one for each label

The code is the served one, of both steps and of the statistics, and the photos are the files.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from training.data import records
from training.data.decoding import MAX_PIXELS, ImageError
from training.network.onnx_network import OnnxNetwork
from training.served_code import load_step

IMAGES = 1000  # at most, spread evenly over the split
SCORE_THRESHOLD, MAX_DETECTIONS = 0.5, 100  # as in postprocess/config.pbtxt

_preprocessing = load_step("preprocess", "preprocessing")
_postprocessing = load_step("postprocess", "postprocessing")
load_step("preprocess", "metrics")
_image_statistics = load_step("preprocess", "image_statistics")
_detection_statistics = load_step("postprocess", "detection_statistics")


def measure_reference(network: OnnxNetwork, manifest: records.Manifest) -> dict[str, Any]:
    """The card's "reference" of an exported network on a split."""
    trained_on = network.trained_on.count(records.photos(manifest))
    return describe_files(network, _read_files(manifest), manifest.labels) | {
        "trained_on": trained_on
    }


def describe_files(
    network: OnnxNetwork, files: Iterable[bytes], labels: tuple[str, ...]
) -> dict[str, Any]:
    """The same of encoded images, none of which it was trained on."""
    images, detections = measure_files(network, files, labels)
    return {
        "images": sum(images.histograms["image_bytes"].counts),
        "score_threshold": SCORE_THRESHOLD,
        "iou_threshold": network.iou_threshold,
        **({"score_thresholds": list(by_class)} if (by_class := network.score_thresholds) else {}),
        "statistics": {
            **{name: _describe_histogram(found) for name, found in images.histograms.items()},
            "detections_per_image": _by_label(detections.labels, detections.per_image),
            "detection_score": _by_label(detections.labels, detections.scores),
        },
    }


def measure_files(
    network: OnnxNetwork, files: Iterable[bytes], labels: tuple[str, ...]
) -> tuple[Any, Any]:
    """What the two steps count of some encoded images, without those that the server refuses."""
    images = _image_statistics.ImageStatistics()
    detections = _detection_statistics.DetectionStatistics(labels)
    for file in files:
        with contextlib.suppress(ImageError):
            seen, sizes, found = detect_file(network, file)
            images.add([file], seen, sizes)
            detections.add([found])
    return images, detections


def _read_files(manifest: records.Manifest) -> Iterator[bytes]:
    """The encoded images of a split, as the records hold them, with a progress bar."""
    wanted = set(np.linspace(0, manifest.count - 1, min(IMAGES, manifest.count)).astype(int))
    with tqdm(total=len(wanted), unit="image", disable=None, leave=False) as bar:
        for index, example in enumerate(records.dataset(manifest).as_numpy_iterator()):
            if index in wanted:
                yield example["encoded"]
                bar.update()


def detect_file(
    network: OnnxNetwork, file: bytes, score_threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """What the network sees of a file, [1, S, S, 3], its size, [1, 2], and what is detected.

    score_threshold: None: what is served.
    """
    size = network.input_size
    seen, sizes = _preprocessing.preprocess([file], size, size, MAX_PIXELS, network.resize)
    outputs = network(seen)
    settings = _postprocessing.Settings(
        SCORE_THRESHOLD, network.iou_threshold, MAX_DETECTIONS, network.score_thresholds
    )
    if score_threshold is not None:
        settings = replace(settings, score_threshold=score_threshold, score_thresholds=())
    boxes, scores = outputs["boxes"][0], outputs["scores"][0]
    found = _postprocessing.detect(
        boxes, scores, sizes[0], settings, network.resize, network.voting_iou
    )
    return seen, sizes, found


def _by_label(labels: list[str], histograms: list[Any]) -> dict[str, Any]:
    return {
        label: _describe_histogram(each) for label, each in zip(labels, histograms, strict=True)
    }


def _describe_histogram(histogram: Any) -> dict[str, Any]:
    return {"edges": list(histogram.edges), "counts": histogram.counts}
