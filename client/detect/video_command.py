"""The command `detect` on videos and a camera, one after the other.

A video that cannot be read to its end is told on the error stream, and the others go on.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from client import video
from client.detect import files as photos
from client.errors import InvalidImage
from client.frames import Camera, VideoFile


def run_videos(
    detector: video.SupportsDetect,
    videos: Sequence[Path],
    camera: str | None,
    *,
    save: Path | None,
    **options: Any,
) -> int:
    """Run the videos and then the camera, and return how many videos were bad.

    Args:
        detector: answers.
        videos: files.
        camera: as `Camera` has it.
        save: a folder that drawn videos are saved in.
        options: those of `video.run_video`.

    Raises:
        DetectorError: a failure that is not one video's own, or the camera's.
    """
    bad = 0
    for path, drawn in zip(videos, _targets(videos, save), strict=True):
        try:
            with VideoFile(path) as source:
                video.run_video(source, detector, write=_say, drawn=drawn, **options)
        except InvalidImage as error:
            tqdm.write(str(error), file=sys.stderr)
            bad += 1
    if camera is not None:
        drawn = save and save / f"camera-{datetime.now():%Y%m%d-%H%M%S}.webm"
        with Camera(camera) as source:
            video.run_video(source, detector, write=_say, drawn=drawn, **options)
    return bad


def _targets(videos: Sequence[Path], save: Path | None) -> Sequence[Path | None]:
    if save is None:
        return [None] * len(videos)
    return photos.targets([path.with_suffix(".webm") for path in videos], save)


def _say(line: str) -> None:
    tqdm.write(line)
    sys.stdout.flush()  # who reads a camera's lines wants each as it comes
