"""The demo page: drop a photo, see what the served model finds in it.

The file's bytes travel to Triton exactly as they were uploaded; decoding, turning upright and
scaling happen in the ensemble. Boxes come back in pixels of the upright photo and are laid over
a copy made for the browser, so that formats browsers cannot show (TIFF) work as well.

    python app.py                 a page for the Triton server at 127.0.0.1:8001
    python app.py --embedded      starts a Triton server too
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import gradio as gr
import httpx
import numpy as np
import tyro
from gradio.exceptions import ServerFailedToStartError

from client import Detection, Detector, Result, drawing
from client.errors import (
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerUnavailable,
)

HERE = Path(__file__).resolve().parent
SHOWN_SIDE = 1600  # pixels, the longer side of the copy the browser gets
UPLOAD_LIMIT = 32  # megabytes; room for a detailed JPEG of the most pixels the server takes
AT_ONCE = 8  # requests under way at the same time; one slow photo blocks nobody
QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
TITLE = "SSD on Triton"


@dataclass(frozen=True)
class AppSettings:
    """Serve the demo page."""

    url: str = "127.0.0.1:8001"
    """Triton's gRPC endpoint, host:port. Not used with --embedded."""
    host: str = "127.0.0.1"
    """Address the page listens on; 0.0.0.0 opens it to the network."""
    port: int = 7860
    """TCP port of the page."""
    timeout: float = 10.0
    """Longest wait for one answer, seconds."""
    embedded: bool = False
    """Start a Triton server on this machine, and stop it with the page."""
    repository: Path = HERE / "model_repository"
    """Model repository that the embedded server serves."""
    http_port: int = 8000
    """The embedded server's HTTP port; 0 takes a free one."""
    grpc_port: int = 8001
    """The embedded server's gRPC port; 0 takes a free one."""
    metrics_port: int = 8002
    """The embedded server's metrics port; 0 takes a free one."""


# ---------------------------------------------------------------- what the page shows


def answer(
    detector: Detector,
    file: str | None,
    score: float | None,
    iou: float | None,
    most: int | None,
) -> str:
    """Sends a file's bytes and returns the HTML of the result, or of a readable message.

    Args:
        detector: connected or not; when its server is away, the message says so.
        file: path of the uploaded file, or None when there is none.
        score: least score of a detection, 0..1. None here and below: the server's default.
        iou: boxes of one class that overlap more than this are merged, 0..1.
        most: number of detections at most, 1..100.
    """
    if file is None or not Path(file).is_file():  # uploads are removed after a while
        return message("No photo yet", "Drop a photo, or click one of the examples.")
    name, photo = Path(file).name, Path(file).read_bytes()
    started = time.perf_counter()
    try:
        result = detector.detect(
            photo, score_threshold=score, iou_threshold=iou, max_detections=most
        )
        milliseconds = 1000 * (time.perf_counter() - started)
        picture = overlay(photo, result)
    except DetectorError as error:
        return message(*explained(error, name), kind="error")
    size = f"{result.width} &times; {result.height} px"
    facts = f"<b>{milliseconds:.0f} ms</b> round trip · {escape(name)} · {size}"
    return f"{summary(result, facts)}{picture}{table(result)}"


def explained(error: DetectorError, name: str) -> tuple[str, str]:
    """A headline and the text below it for what went wrong with the file of this name."""
    text = str(error).removeprefix("the image: ")
    text = text[:1].upper() + text[1:]
    match error:
        case ServerUnavailable():
            return "The Triton server is away", f"{text} Then press Detect again."
        case DeadlineExceeded():
            return "The Triton server took too long", f"{text}. Try again when it is less busy."
        case InvalidImage():
            return f"{name} cannot be used", text
        case InvalidParameter():
            return "This setting cannot be used", str(error)  # starts with the setting's name
        case _:
            return "The Triton server reported a problem", text


def message(headline: str, text: str, kind: str = "hint") -> str:
    """A panel in the place of the result; `kind` is "hint" or "error"."""
    marked = re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
    return (
        f'<div class="message {kind}" role="{"alert" if kind == "error" else "status"}">'
        f"<strong>{escape(headline)}</strong><p>{marked}</p></div>"
    )


def summary(result: Result, facts: str) -> str:
    """Counts per class, the most frequent first, and a line of facts."""
    colours = {found.label: coloured(found) for found in result.detections}
    chips = "".join(
        f'<span class="chip" style="{colours[label]}"><i></i>{escape(label)} <b>{count}</b></span>'
        for label, count in result.counts().items()
    )
    chips = chips or '<span class="chip none">Nothing found above the score threshold</span>'
    return f'<div class="summary"><div>{chips}</div><div class="facts">{facts}</div></div>'


def overlay(photo: bytes, result: Result) -> str:
    """The photo with one element per detection; positions are percentages of its size."""
    picture = base64.b64encode(shown(photo)).decode("ascii")
    worst_first = result.detections[::-1]
    boxes = "".join(boxed("box", found, result) for found in worst_first)
    names = "".join(boxed("name", found, result) for found in worst_first)  # over all boxes
    return (
        f'<div class="photo" style="--ratio:{result.width / result.height:.5f}">'
        f'<img alt="the photo" src="data:image/jpeg;base64,{picture}">{boxes}{names}</div>'
    )


def boxed(kind: str, found: Detection, result: Result) -> str:
    """A "box", or its "name", which stands where the edge of the photo does not cut it off."""
    box = found.box
    left, top = 100 * box.x1 / result.width, 100 * box.y1 / result.height
    width, height = 100 * (box.x2 - box.x1) / result.width, 100 * (box.y2 - box.y1) / result.height
    name = f"{escape(found.label)} {found.score:.2f}"
    text = f"<span>{name}</span>" if kind == "name" else ""
    side = f"{'under' if top < 5 else 'over'} {'right' if left + width / 2 > 50 else 'left'}"
    return (
        f'<div class="{kind} {side}" title="{name}" style="left:{left:.3f}%;'
        f"top:{top:.3f}%;width:{width:.3f}%;height:{height:.3f}%;"
        f'{coloured(found)}">{text}</div>'
    )


def table(result: Result) -> str:
    """All detections, best first, with their boxes in pixels of the upright photo."""
    if not result.detections:
        return ""
    rows = "".join(row(place, found) for place, found in enumerate(result.detections, start=1))
    head = "<th>#</th><th>label</th><th>score</th><th>x1</th><th>y1</th><th>x2</th><th>y2</th>"
    return (
        f'<details class="table" open><summary>{len(result.detections)} detections, '
        f"boxes in pixels</summary><div><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def row(place: int, found: Detection) -> str:
    box = found.box
    pixels = "".join(f"<td>{value:.0f}</td>" for value in (box.x1, box.y1, box.x2, box.y2))
    return (
        f'<tr style="{coloured(found)}"><td>{place}</td>'
        f"<td><i></i>{escape(found.label)}</td><td>{found.score:.3f}</td>{pixels}</tr>"
    )


def shown(photo: bytes) -> bytes:
    """A JPEG copy for the browser: upright, its longer side 1600 pixels at most."""
    image = drawing.read(photo)
    scale = SHOWN_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def coloured(found: Detection) -> str:
    """A class's colour, the same as in `client.drawing`, and black or white to write on it."""
    red, green, blue = drawing.colour(found.class_id)
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"
    return f"--colour:rgb({red},{green},{blue});--ink:{ink}"


# ---------------------------------------------------------------- the page


def theme() -> gr.themes.Base:
    """Fonts that are on the machine already, and text that stands out enough."""
    return gr.themes.Default(
        primary_hue="teal",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )


HEADER = f"""
<header><h1>{TITLE}</h1>
<p>Drop a photo: its bytes go unchanged to an NVIDIA Triton server, which decodes it, runs an SSD
object detection network and answers with boxes. The model that comes with the project finds red
blood cells (RBC), white blood cells (WBC) and platelets in microscope pictures of blood.</p>
</header>"""

CSS = """
.gradio-container { --subdued: color-mix(in srgb, var(--body-text-color) 72%, transparent); }
.gradio-container main.app { max-width: 1280px; padding: 20px 24px; }
.gradio-container .html-container { padding: 0; }
header h1 { margin: 0 0 4px; font-size: 1.7em; }
header p { margin: 0; color: var(--subdued); }
#page { display: grid; gap: 20px; grid-template-columns: 320px minmax(0, 1fr);
  grid-template-areas: "input result" "settings result"; grid-template-rows: auto 1fr; }
#input { grid-area: input; } #result { grid-area: result; } #settings { grid-area: settings; }
#input, #result, #settings { min-width: 0; }
@media (max-width: 800px) {
  .gradio-container main.app { padding: 12px; }
  #page { grid-template-columns: minmax(0, 1fr); grid-template-rows: auto;
    grid-template-areas: "input" "result" "settings"; }
}
#drop [data-testid="status-tracker"] { display: none; }  /* would cover it after an error */
#examples > .gallery { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; }
#examples > .gallery .container { width: 100%; height: auto; aspect-ratio: 4 / 3; }
.message { display: flex; flex-direction: column; justify-content: center; min-height: 420px;
  padding: 24px; text-align: center; border-radius: var(--radius-xl);
  border: 2px dashed var(--border-color-primary); }
.message strong { font-size: 1.25em; }
.message p { margin: 0.4em auto 0; max-width: 60ch; color: var(--subdued);
  overflow-wrap: anywhere; }
.message.error { border: 2px solid #e5484d; background: #e5484d14; }
.summary { display: flex; flex-wrap: wrap; gap: 8px; align-items: center;
  justify-content: space-between; margin-bottom: 12px; }
.summary > div { display: flex; flex-wrap: wrap; gap: 8px; }
.summary .facts { display: block; color: var(--subdued); overflow-wrap: anywhere; }
.chip { padding: 4px 12px; border-radius: 99px; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); }
.chip i, .table i { display: inline-block; width: 0.75em; height: 0.75em; margin-right: 0.5em;
  border-radius: 3px; background: var(--colour); }
.photo { position: relative; margin: auto; aspect-ratio: var(--ratio); overflow: hidden;
  width: min(100%, 80vh * var(--ratio)); border-radius: var(--radius-lg); }
.photo img { display: block; width: 100%; height: 100%; margin: 0; }
.box, .name { position: absolute; border: 2px solid var(--colour); border-radius: 3px; }
.name { border-color: transparent; container-type: inline-size; }
.name span { position: absolute; padding: 0 5px; white-space: nowrap; border-radius: 3px;
  font-size: 11px; line-height: 16px; font-weight: 600; color: var(--ink);
  background: var(--colour); }
.name.over span { bottom: 100%; } .name.under span { top: -2px; }
.name.left span { left: -2px; } .name.right span { right: -2px; }
.name:hover { z-index: 1; background: color-mix(in srgb, var(--colour) 25%, transparent); }
.table { margin-top: 12px; }
.table summary { cursor: pointer; padding: 6px 0; }
.table > div { max-height: 332px; overflow: auto; scrollbar-gutter: stable; }
.gradio-container .table * { border: 0 !important; }
.gradio-container .table table { width: 100%; margin: 0; border-collapse: collapse;
  font-variant-numeric: tabular-nums; }
.gradio-container .table :is(th, td) { padding: 4px 8px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.gradio-container .table :is(th, td):nth-child(2) { text-align: left; }
@media (max-width: 500px) { .gradio-container .table :is(th, td) { padding: 4px; } }
"""


SMALL_BOXES = "@container (max-width: 50px) { .name:not(:hover) span { display: none; } }"


def build_page(detector: Detector, samples: list[Path]) -> gr.Blocks:
    """The page around one detector, which all visitors share (it is thread-safe)."""

    def show(file: str | None, score: float | None, iou: float | None, most: int | None) -> str:
        return answer(detector, file, score, iou, most)

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(HEADER)
        file = gr.State(None)  # path of the photo on show, so that the drop zone stays free
        with gr.Row(elem_id="page"):
            with gr.Column(elem_id="input"):
                drop = gr.File(
                    label=f"Photo, {UPLOAD_LIMIT} MB at most", height=165, elem_id="drop"
                )
                gallery = example_gallery(samples)
                again = gr.Button("Detect again", variant="primary", elem_id="again")
            with gr.Column(elem_id="result"):
                result = gr.HTML(show(None, None, None, None))
            with gr.Column(elem_id="settings"):
                sliders = threshold_sliders()
        # Without Gradio's own checks, a wrong number gets the server's message in the page.
        detect = {
            "fn": show,
            "inputs": [file, *sliders],
            "outputs": result,
            "preprocess": False,
            **QUIETLY,
        }
        # While a slider moves, only its newest value counts.
        gr.on([slider.change for slider in sliders], trigger_mode="always_last", **detect)
        again.click(**detect)
        dropped = drop.upload(lambda path: (path, None), drop, [file, drop], **QUIETLY)
        dropped.then(**detect)
        clicked = gallery.click(lambda index: str(samples[index]), gallery, file, **QUIETLY)
        clicked.then(**detect)
    return page.queue(max_size=100, default_concurrency_limit=AT_ONCE)


def threshold_sliders() -> list[gr.Slider]:
    """Score threshold, IoU threshold and number of detections, with the server's defaults."""
    return [
        gr.Slider(0, 1, 0.5, step=0.01, label="Score threshold", elem_id="score",
                  info="Hide what the model is less sure of."),
        gr.Slider(0, 1, 0.45, step=0.01, label="IoU threshold", elem_id="iou",
                  info="Merge boxes of one class that overlap more than this."),
        gr.Slider(1, 100, 100, step=1, label="Detections at most", elem_id="most"),
    ]  # fmt: skip


def example_gallery(samples: list[Path]) -> gr.Dataset:
    """Thumbnails to click on."""
    return gr.Dataset(
        label="Examples",
        components=[gr.Image(render=False, type="filepath")],
        samples=[[str(sample)] for sample in samples],
        samples_per_page=12,
        type="index",
        visible=bool(samples),
        elem_id="examples",
    )


# ---------------------------------------------------------------- the program


class AppError(Exception):
    """The page cannot be served; the text says why and what to do."""


@contextlib.contextmanager
def triton(settings: AppSettings) -> Iterator[str]:
    """host:port of Triton's gRPC endpoint; with --embedded, of a server that lives as long."""
    if not settings.embedded:
        yield settings.url
        return
    # Only here: a page for a server elsewhere needs neither these packages nor Linux.
    from serving.server import EmbeddedServer, ServerSettings, ServingError

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
        except ServingError as error:
            raise AppError(str(error)) from error
        yield running.grpc_url


@contextlib.contextmanager
def served(page: gr.Blocks, settings: AppSettings, samples: Path) -> Iterator[str]:
    """The page's address, as long as the page is served."""
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
            max_file_size=f"{UPLOAD_LIMIT}mb",
            allowed_paths=[str(samples)],
            theme=theme(),
            css=CSS,
            head=f"<style>{SMALL_BOXES}</style>",  # Gradio drops @container rules from css
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


def run(settings: AppSettings) -> None:
    """Serves the page until the program is told to stop."""
    stay_local()
    require_free(settings.host, settings.port)
    samples = HERE / "samples"
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(tempfile.TemporaryDirectory(prefix="ssd-demo-"))
        os.environ["GRADIO_TEMP_DIR"] = uploads  # photos people drop do not outlive the program
        url = stack.enter_context(triton(settings))
        detector = stack.enter_context(Detector(url, timeout=settings.timeout))
        page = build_page(detector, sorted(samples.glob("*.jpg")))
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
        run(settings)
    except KeyboardInterrupt:
        return 0
    except (AppError, InvalidParameter) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidParameter) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
