"""LocalDetector: the detector without a server.

    from client import LocalDetector

    with LocalDetector("model_repository") as detector:
        for detection in detector.detect("photo.jpg").detections:
            print(detection.label, detection.score, detection.box)

It runs the repository's own preprocess and postprocess, and its network with the options that the
embedded server has: so the boxes are those of that server on this machine, to the last bit.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, Unpack, overload

from client.detection import Box, Detection, Result
from client.errors import DetectorError
from client.images import LARGEST_LIMIT, Image, encoded, name_of
from client.local import model_folder
from client.local.steps import Network, Postprocess, Preprocess
from client.local.views import Flip, make_views
from client.ordered import in_order
from client.tensors import Parameters, request_parameters


class LocalDetector:
    """Returns what a model repository detects in images, in this process.

    Threads may share a detector; a process forked off needs its own.

    Args:
        folder: a model repository, or an artifact.
        model: the repository's ensemble.
        version: the network's version; None: the one that the repository serves. A fusion names a
            version of each of its networks.
        threads: of one network at work; 0: as many as there are cores.
        flips: how the network sees each image once more, "horizontal" (mirrored), "vertical" or
            both; what it finds is fused (test-time augmentation), and takes that many times longer.
        scales: likewise, each a share of the input's size, 0.25 up to 1, in the middle of grey.

    Raises:
        InvalidParameter: the folder is neither, or does not hold that ensemble or version, or there
            is no such flip or scale.
        DetectorError: a file is missing or damaged, or a package is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: str = "ensemble",
        version: int | None = None,
        threads: int = 0,
        flips: Sequence[Flip] = (),
        scales: Sequence[float] = (),
    ) -> None:
        self._views = make_views(flips, scales)
        models = model_folder.find_models(Path(folder), model, version)
        self.model = models.name
        self.labels = model_folder.read_labels(models.labels)
        files = [models.network, *models.further]
        networks = [Network(file, threads or _cores()) for file in files]
        for file, network in zip(files, networks, strict=True):
            if len(self.labels) != network.classes:
                raise DetectorError(
                    f"{models.labels} has {len(self.labels)} lines, {file} has "
                    f"{network.classes} classes: one line per class expected"
                )
        self._networks: list[Network] | None = networks
        try:
            self._preprocess = Preprocess(models.preprocess, networks[0].input_size)
            fuses = len(networks) * len(self._views) > 1
            self._postprocess = Postprocess(models.postprocess, fuses)
        except (KeyError, ValueError) as error:
            raise DetectorError(
                f"{folder}: the config.pbtxt of a step lacks or misstates {error}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the network go; images that are under way are finished."""
        self._networks = None

    def detect(
        self,
        image: Image,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Result:
        """Return what is detected in one image.

        Args:
            image: a path; the bytes of an encoded file (JPEG, PNG, BMP, WebP, TIFF); or a uint8
                array, RGB [H, W, 3] or grey [H, W].
            score_threshold: 0..1, detections with a lower score are left out.
            iou_threshold: 0..1, of two boxes of one class that overlap more only the better stays.
            max_detections: how many at most. Each of the three: None is the repository's default.

        Raises:
            InvalidImage, InvalidParameter: as `Detector` does, in the same words.
            TypeError: the image is something else.
        """
        return self._detect(
            image,
            request_parameters(
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
            ),
        )

    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["raise"] = ...,
        **parameters: Unpack[Parameters],
    ) -> Iterator[Result]: ...

    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = ...,
        errors: Literal["return"],
        **parameters: Unpack[Parameters],
    ) -> Iterator[Result | DetectorError]: ...

    def detect_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = 2,
        errors: Literal["raise", "return"] = "raise",
        **parameters: Unpack[Parameters],
    ) -> Iterator[Any]:
        """Yield the results of many images in their order.

        The images are taken from the iterable as the results are consumed, never more than
        `concurrency` ahead, so it may be endless and memory stays bounded.

        Args:
            images: as for `detect`, mixed as you like.
            concurrency: images under way at once, 1 or more; two let one image be decoded while
                another is in the network.
            errors: "raise" raises the first failing image's error in its turn and ends; "return"
                yields the DetectorError in that image's place and goes on.
            parameters: the three of `detect`, for all images.
        """
        detect = partial(self._detect, parameters=request_parameters(**parameters))
        return in_order((partial(detect, image) for image in images), concurrency, errors)

    def _detect(self, image: Image, parameters: dict[str, float | int]) -> Result:
        networks = self._networks
        if networks is None:
            raise DetectorError("the detector is closed")
        file, name = encoded(image, LARGEST_LIMIT), name_of(image)
        images, sizes = self._preprocess(file, name)
        members = [
            view.restore(network(view.show(images), name), network.input_size)
            for network in networks
            for view in self._views
        ]
        found = self._postprocess(members, sizes[0], parameters)
        detections = (
            Detection(self.labels[class_id], int(class_id), float(score), Box(*box.tolist()))
            for box, score, class_id in zip(*found, strict=True)
        )
        height, width = sizes[0].tolist()
        return Result(tuple(detections), width=width, height=height, model=self.model)


def _cores() -> int:
    """Return how many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
