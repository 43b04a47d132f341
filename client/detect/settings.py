"""What the command `detect` can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from client.detect.files import is_video
from client.detect.formats import Format
from client.detector import Detector
from client.errors import InvalidParameter
from client.local.detector import LocalDetector
from client.tensors import Parameters
from client.transports.security_options import SecurityOptions

SERVERS_DEFAULT = "(default: the server's)"
Optional01 = Annotated[
    float | None, tyro.conf.arg(metavar="0..1", help_behavior_hint=SERVERS_DEFAULT)
]


@dataclass(frozen=True)
class Detect:
    """Detect objects in photos with a running Triton server, or without one (--local).

    - A table of a few photos: python -m client detect photo.jpg
    - A file of thousands: python -m client detect photos/ --output found.csv
    - After that was interrupted: the same with --resume

    Exit code: 0 all photos fine, 1 a photo or the server failed, 2 wrong usage.
    """

    photos: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTO...", help_behavior_hint=""),
    ]
    """Image and video files, and folders, which are searched for images with their subfolders."""

    url: Annotated[str, tyro.conf.arg(metavar="HOST:PORT")] = "127.0.0.1:8001"
    """Address of the server's gRPC port, or a URL such as http://HOST:8000; several by commas."""

    model: str = "ensemble"
    """Name of the ensemble on the server."""

    canary_key: Annotated[
        str,
        tyro.conf.arg(metavar="KEY", help_behavior_hint="(default: no key, never the canary)"),
    ] = ""
    """Take part in a canary, if there is one: the key decides on which side, the same each time."""

    score_threshold: Optional01 = None
    """Leave out detections with a lower score."""

    iou_threshold: Optional01 = None
    """Of two boxes of one class that overlap more, keep only the better one."""

    max_detections: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=SERVERS_DEFAULT)
    ] = None
    """Detections per photo at most."""

    timeout: float = 30.0
    """Seconds that one photo may take."""

    concurrency: int = 8
    """Photos under way at once."""

    json: bool = False
    """Write one JSON document instead of the table; of a video or camera, a line per frame."""

    output: Annotated[
        Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: a table)")
    ] = None
    """Write a file or a folder instead of the table, for any number of photos."""

    format: Annotated[
        Format | None,
        tyro.conf.arg(
            metavar="{jsonl,coco,voc,yolo,csv}",
            help_behavior_hint="(default: by the suffix: .jsonl, .json is coco, .csv)",
        ),
    ] = None
    """What --output is; voc and yolo are folders that hold the photos, too, ready for training."""

    coco_ids: Annotated[
        Path | None, tyro.conf.arg(metavar="JSON", help_behavior_hint="(default: a document)")
    ] = None
    """Write COCO results for this annotation file: its photos only, with its ids."""

    resume: bool = False
    """Go on with a run that was interrupted; failed photos are tried again."""

    inbox: Annotated[
        str | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none are kept)")
    ] = None
    """Keep the photos that the model is least sure of in this folder, or bucket such as
    s3://bucket/inbox, to be corrected on the page: `app.py --corrections DIR`."""

    unsure: int = 100
    """So many of them at most: a surer one gives way."""

    inbox_limit: int = 1000
    """Megabytes that all of the inbox may take."""

    save: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none are saved)")
    ] = None
    """Save photos and videos with their boxes drawn in this folder; inputs stay as they are."""

    camera: Annotated[
        str | None, tyro.conf.arg(metavar="CAMERA", help_behavior_hint="(default: none)")
    ] = None
    """Detect in what a camera shows until Ctrl-C: its number from 0, or rtsp://..."""

    tile: Annotated[
        int | None, tyro.conf.arg(metavar="PIXELS", help_behavior_hint="(default: not cut)")
    ] = None
    """Cut larger photos into overlapping tiles of this side, to find small objects in them."""

    local: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: ask the server)"),
    ] = None
    """Without a server: the model repository or artifact to run here, instead of --url."""

    security: Annotated[SecurityOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=SecurityOptions
    )

    def check(self) -> None:
        """Look for settings that make no sense together.

        Raises:
            InvalidParameter: two that do not go together, or nothing to detect in.
        """
        if not self.photos and self.camera is None:
            raise InvalidParameter("name at least one photo, video or folder; see detect --help")
        moving = [is_video(path) for path in self.photos] + [True] * bool(self.camera)
        if self.inbox and any(moving):
            raise InvalidParameter("--inbox is of photos, not of videos")
        if self.unsure < 1:
            raise InvalidParameter(f"--unsure {self.unsure}: expected 1 or more")
        if self.output and any(moving):
            raise InvalidParameter("--output is of photos: of videos take --json, or --save")
        if self.json and any(moving) and not all(moving):
            raise InvalidParameter(
                "--json: a document of photos or lines of videos, not both at once"
            )
        if self.json and self.output:
            raise InvalidParameter("--json goes to the standard output: leave it out with --output")
        if not self.output and (self.format or self.coco_ids or self.resume):
            raise InvalidParameter("--format, --coco-ids and --resume go with --output PATH")

    def parameters(self) -> Parameters:
        """The three of `Detector.detect`."""
        return {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }

    def decisive(self) -> Mapping[str, Any]:
        """The settings that results depend on: a run is resumed with the same."""
        return {
            "model": self.model,
            "canary_key": self.canary_key,
            **self.parameters(),
            "tile": self.tile,
            "local": str(self.local) if self.local else None,
        }

    def open_detector(self, *, bulk: bool) -> Detector | LocalDetector:
        """The detector that these settings name.

        Args:
            bulk: as `Detector` has it.

        Raises:
            DetectorError: a repository or artifact cannot be used.
            InvalidParameter: an option makes no sense.
        """
        if self.local:
            return LocalDetector(self.local, model=self.model)
        return Detector(
            self.url,
            model=self.model,
            timeout=self.timeout,
            canary_key=self.canary_key,
            security=self.security.read(),
            bulk=bulk,
        )

    def make_save_folder(self) -> None:
        """Make the folder of `save`, where there is to be one.

        Raises:
            InvalidParameter: it cannot be made.
        """
        try:
            if self.save:
                self.save.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidParameter(f"--save {self.save}: {error.strerror}") from None
