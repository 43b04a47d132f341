"""The demo page: drop a photo, see what the served model finds in it.

The file's bytes travel to Triton exactly as they were uploaded; decoding, turning upright and
scaling happen in the ensemble. Boxes come back in pixels of the upright photo and are laid over
a copy made for the browser, so that formats browsers cannot show (TIFF) work as well.

    python app.py                 a page for the Triton server at 127.0.0.1:8001
    python app.py --embedded      starts a Triton server too
    python app.py --artifact artifacts/mine       starts one that serves what was trained there
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NamedTuple

import cv2
import gradio as gr
import httpx
import numpy as np
import tyro
from gradio.exceptions import ServerFailedToStartError
from starlette.middleware import Middleware

from client import Detector, DetectorError, InvalidParameter
from client.service.supervision import read_metrics
from client.transports.security_options import SecurityOptions
from demo import page as pages
from demo import uploads, views
from demo.corrections.boxes import CorrectionError
from demo.corrections.options import CorrectionOptions
from demo.door import Door
from demo.video import VIDEO_LIMIT
from demo.visitors import VisitorOptions

HERE = Path(__file__).resolve().parent
# Between two looks of Gradio at its queue, as on Windows. Elsewhere it looks 1,000 times a second,
# burning 7% of a core while nobody uses the page; so a click waits 25 ms longer on average.
QUEUE_SECONDS = 0.05
START_ALONE = (
    "Start it by itself, with more time: python -m serving up --start-seconds 600; "
    "and when it is ready, the page without --embedded."
)
SHOWN = (".jpg", ".jpeg", ".png", ".webp")  # photos to click on, whose thumbnails browsers show
METRICS_SECONDS = 1.0  # that asking for metrics may take
MOST_VISITORS = 500  # of the last hour; what an earlier one was answered for is forgotten


@dataclass(frozen=True)
class AppSettings:
    """Serve the demo page."""

    url: str = "127.0.0.1:8001"
    """Triton's gRPC port, or a URL such as http://HOST:8000; several by commas. Not used with
    --embedded."""
    host: str = "127.0.0.1"
    """Address the page listens on; 0.0.0.0 opens it to the network."""
    port: int = 7860
    """TCP port of the page."""
    timeout: float = 10.0
    """Longest wait for one answer, seconds."""
    embedded: bool = False
    """Start a Triton server on this machine, and stop it with the page."""
    artifact: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Start one that serves this artifact alone: what `training export` wrote, or the folder of
    `training run`, of which the int8 one is taken."""
    repository: Path = HERE / "model_repository"
    """Model repository that the embedded server serves."""
    http_port: int = 8000
    """The embedded server's HTTP port; 0 takes a free one."""
    grpc_port: int = 8001
    """The embedded server's gRPC port; 0 takes a free one."""
    metrics_port: int = 8002
    """The embedded server's metrics port; 0 takes a free one."""
    photos: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of photos that links may open, as http://HOST:PORT/?photo=NAME does: the report's
    photos, say. Whoever reaches the page may open them."""
    metrics_url: str = ""
    """Where `serving up` tells its metrics, such as http://127.0.0.1:8003/metrics: the page then
    shows since when which version is live. Not needed with --embedded."""
    corrections: Annotated[CorrectionOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=CorrectionOptions
    )
    visitors: Annotated[VisitorOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=VisitorOptions
    )
    security: Annotated[SecurityOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=SecurityOptions
    )


class AppError(Exception):
    """The page cannot be served; the text says why and what to do."""


class Triton(NamedTuple):
    """A server: where its requests go, and what gives the metrics of its supervision if any do."""

    url: str
    metrics: Callable[[], str] | None


@contextlib.contextmanager
def triton(settings: AppSettings) -> Iterator[Triton]:
    """The server that the settings name; with --embedded, one that lives as long."""
    if not settings.embedded:
        asked = partial(read_metrics, settings.metrics_url, METRICS_SECONDS)
        yield Triton(settings.url, asked if settings.metrics_url else None)
        return
    # Only here: a page for a server elsewhere needs neither these packages nor Linux.
    from serving.server.server import (
        EmbeddedServer,
        ServerSettings,
        ServingError,
        SlowStartError,
    )

    server = ServerSettings(
        repository=settings.repository,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        metrics_port=settings.metrics_port,
    )
    print("Starting Triton and running a first inference ...", flush=True)
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(EmbeddedServer(server))
        except SlowStartError as error:
            raise AppError(f"{error}. {START_ALONE}") from error
        except ServingError as error:
            raise AppError(str(error)) from error
        yield Triton(running.grpc_url, running.metrics.text)


def with_artifact(settings: AppSettings, repository: Path) -> AppSettings:
    """The settings for a server of their artifact, for which a repository is made; or as they are.

    Raises:
        AppError: there is no artifact, or it is not whole.
    """
    if settings.artifact is None:
        return settings
    from serving.artifact import read_artifact
    from serving.errors import ServingError
    from serving.template import TEMPLATE, render_template

    if not settings.artifact.exists():
        raise AppError(f"{settings.artifact} does not exist: --artifact takes an artifact's folder")
    found = [path for path in (settings.artifact, settings.artifact / "int8") if is_artifact(path)]
    if not found:
        raise AppError(
            f"{settings.artifact} holds no artifact, nor does its folder int8: the same "
            "`python -m training run` again goes on until there is one."
        )
    try:
        render_template(TEMPLATE, read_artifact(found[0]), repository)
    except ServingError as error:
        raise AppError(str(error)) from error
    return replace(settings, embedded=True, repository=repository)


def is_artifact(folder: Path) -> bool:
    return (folder / "model.onnx").is_file()


def served_labels(settings: AppSettings) -> list[str]:
    """The classes of an embedded server; none are known of a server elsewhere."""
    labels = settings.repository / "postprocess" / "labels.txt"
    known = settings.embedded and labels.is_file()
    return labels.read_text(encoding="utf-8").splitlines() if known else []


def open_learning(settings: AppSettings) -> pages.Learning | None:
    """What the page learns from its visitors; None where no folder is given."""
    is_private = settings.visitors.is_private(settings.host)
    try:
        return settings.corrections.open(served_labels(settings), is_private)
    except CorrectionError as error:
        raise AppError(str(error)) from error


@contextlib.contextmanager
def served(page: gr.Blocks, settings: AppSettings, samples: Path) -> Iterator[str]:
    """The page's address, as long as the page is served."""
    page._queue.sleep_when_free = QUEUE_SECONDS
    page._queue.progress_update_sleep_when_free = 1.0  # nothing here uses Gradio's progress bars
    names = settings.visitors.host_names(settings.host)
    try:
        page.launch(
            server_name=settings.host,
            server_port=settings.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=f"{VIDEO_LIMIT}mb",
            allowed_paths=[str(samples)],
            auth=settings.visitors.login(),
            root_path=settings.visitors.root(),
            app_kwargs={"middleware": [Middleware(Door, names=names)]},
            state_session_capacity=MOST_VISITORS,
            theme=pages.theme(),
            css_paths=views.STYLE,
            head=views.head(),
        )
    except (OSError, ServerFailedToStartError, httpx.HTTPError) as error:
        raise AppError(f"The page could not be served: {error}") from error
    try:
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        yield f"http://{host}:{settings.port}"
    finally:
        page.close(verbose=False)


def require_free(host: str, port: int) -> None:
    """Looks before Triton is started, which takes longer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", error)
            raise AppError(
                f"The page cannot listen on {host}:{port} ({reason}): "
                "stop what uses that port, or choose another one with --port."
            ) from error


def stay_local() -> None:
    """No telemetry, and no proxy meant for the internet between this program and its own page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [os.environ.get(name), "127.0.0.1", "localhost"]
        os.environ[name] = ",".join(filter(None, hosts))


def first_inference(detector: Detector) -> str:
    """A sentence about the server, after asking it for real."""
    blank = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    try:
        detector.detect(blank)
    except DetectorError as error:
        return f"Note: {error}\nThe page works as soon as the server does."
    return "Triton answers."


def serve_page(settings: AppSettings) -> None:
    """Serves the page until the program is told to stop."""
    stay_local()
    require_free(settings.host, settings.port)
    logins = settings.visitors.login() or []  # looks before Triton is started, which takes longer
    settings.corrections.check([user for user, _ in logins])
    if settings.photos and not settings.photos.is_dir():
        raise InvalidParameter(f"--photos {settings.photos} is no folder")
    samples = (settings.artifact or HERE) / "samples"
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="ssd-artifact-"))
        settings = with_artifact(settings, Path(made) / "models")
        learning = open_learning(settings)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ssd-demo-"))
        os.environ["GRADIO_TEMP_DIR"] = folder  # photos people drop do not outlive the program
        uploads.limit = settings.visitors.uploads_limit * uploads.MEGABYTE
        server = stack.enter_context(triton(settings))
        security = settings.security.read()
        detector = stack.enter_context(
            Detector(server.url, timeout=settings.timeout, security=security)
        )
        labels = served_labels(settings) if settings.artifact else []
        photos = [path for path in sorted(samples.glob("*")) if path.suffix.lower() in SHOWN]
        page = pages.build_page(detector, photos, learning, labels, server.metrics, settings.photos)
        address = stack.enter_context(served(page, settings, samples))
        print(f"{first_inference(detector)}\nDemo: {address}  (Ctrl-C stops it)", flush=True)
        threading.Event().wait()


def interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM stop the program once; a second one does not disturb the stopping."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    settings = tyro.cli(AppSettings)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, interrupt)
    try:
        serve_page(settings)
    except KeyboardInterrupt:
        return 0
    except (AppError, InvalidParameter) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidParameter) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
