"""A clip in, the same clip with boxes drawn out, in a form that browsers play (WebM, VP8).

Sent to the browser: {"progress": {"frames", "total", "rate"}} while it runs, then {"video",
"facts"}, or {"message"}.
"""

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from client import Detector, drawing, video
from client.frames import VideoFile
from client.tensors import Parameters
from demo import uploads
from demo.messages import explained

VIDEO_LIMIT = 200  # megabytes
# Of one clip. A small file may claim anything, and somebody else may wait.
MOST_FRAMES = 3000  # 100 s at 30 frames a second
MOST_PIXELS = 4096 * 2304  # of a frame: 4K
MOST_SECONDS = 1800  # that all of it may take
AT_ONCE = 4  # frames of one user under way at the same time
TICK_SECONDS = 0.5  # between two signs of progress
WAITING = {"progress": {"frames": 0, "total": 0, "rate": 0.0}}  # for its turn


def annotated(
    detector: Detector, path: str | None, parameters: Parameters
) -> Iterator[dict[str, Any]]:
    """Yield progress, and at the end the clip with its boxes.

    Args:
        detector: answers each frame.
        path: the uploaded file.
        parameters: the three of `Detector.detect`.
    """
    if path is None:
        yield {}
        return
    name = Path(path).name
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(parents=True)
    target = folder / f"{Path(path).stem}-detections.webm"
    whole = False
    try:
        run = Run(Path(path), target)
        yield from run.frames(detector, parameters)
        facts = {"name": target.name, "text": run.told(name)}
        whole = True
        yield {"video": gr.FileData(path=str(target)).model_dump(), "facts": facts}
    except Exception as error:
        yield {"message": explained(error, name, path)}
    finally:  # also where somebody stopped it
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)


class Run:
    """One clip's way through the detector.

    Args:
        path: the clip.
        target: the WebM file to write.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self.count = 0
        self.total = 0
        self.cut = False  # whether there is, or should be, more of it
        self.found: Counter[str] = Counter()
        self.began = time.monotonic()

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.count / max(time.monotonic() - self.began, 1e-9)

    def frames(self, detector: Detector, parameters: Parameters) -> Iterator[dict[str, Any]]:
        """Detect, draw and write each frame; yield progress now and then."""
        with (
            VideoFile(self.path, MOST_PIXELS, MOST_SECONDS) as clip,
            video.Recording(self.target, clip.fps) as recording,
        ):
            self.total = min(clip.total, MOST_FRAMES)
            some = islice(clip, MOST_FRAMES)
            last = 0.0
            for frame, result in video.detect(detector, some, concurrency=AT_ONCE, **parameters):
                recording.add(drawing.draw(frame.picture, result.detections), frame.seconds)
                self.count += 1
                self.found.update(result.counts())
                if recording.count >= MOST_FRAMES:  # pictures that stay count as often as shown
                    break
                if time.monotonic() > last + TICK_SECONDS:
                    last = time.monotonic()
                    uploads.make_way(0)  # the video grows, too
                    yield self._progress()
            if self.count == 0:
                clip.check_end()  # says why
            self.cut = clip.broken_off or recording.count >= MOST_FRAMES

    def told(self, name: str) -> str:
        """One line on the whole."""
        seconds = time.monotonic() - self.began
        found = [f"{count / self.count:.1f} {label}" for label, count in self.found.most_common()]
        cut = f", the first {self.count} of it" if self.cut else ""
        return (
            f"{name}{cut}: {self.count} frames in {seconds:.1f} s, {self.rate:.1f} a second; "
            f"in a frame {', '.join(found) or 'nothing'}"
        )

    def _progress(self) -> dict[str, Any]:
        return {"progress": {"frames": self.count, "total": self.total, "rate": self.rate}}
