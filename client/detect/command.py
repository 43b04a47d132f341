"""The command `detect`: tells photos from videos, and runs each kind.

Videos and a camera come after the photos.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from client.detect.files import is_video
from client.detect.photos_command import run_photos
from client.detect.settings import Detect


def run_detect(settings: Detect) -> int:
    """Detect, report, and return the exit code.

    Raises:
        DetectorError: a failure that is not one photo's own.
        InvalidParameter: a setting that makes no sense.
    """
    settings.check()
    videos = tuple(filter(is_video, settings.photos))
    others = tuple(path for path in settings.photos if path not in videos)
    bad = run_photos(replace(settings, photos=others)) if others else 0
    if videos or settings.camera is not None:
        bad += _run_videos(settings, videos)
    return 1 if bad else 0


def _run_videos(settings: Detect, videos: Sequence[Path]) -> int:
    from client.detect.video_command import run_videos  # OpenCV is only needed here

    settings.make_save_folder()
    with settings.open_detector(bulk=settings.camera is None) as detector:
        return run_videos(
            detector,
            videos,
            settings.camera,
            save=settings.save,
            as_json=settings.json,
            concurrency=settings.concurrency,
            **settings.parameters(),
        )
