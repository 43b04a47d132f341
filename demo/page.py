"""The page: its tabs, its sliders, and what happens when somebody touches them."""

import html
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from client import Detector, canary
from demo.api import detection_by
from demo.camera import frames_to
from demo.compare import comparison
from demo.facts import Facts, describe_supervision
from demo.linked import find_linked
from demo.photos import FLOOR, Found, answers, drawing, filtered
from demo.pictures import PHOTO_LIMIT
from demo.video import VIDEO_LIMIT, WAITING, annotated
from demo.views import QUIETLY, view

TITLE = "SSD on Triton"
AT_ONCE = 8  # requests under way at the same time; one slow photo blocks nobody
DRAWINGS_AT_ONCE = 2  # each holds a photo in its full size several times
VIDEOS_AT_ONCE = 2  # each keeps a processor core busy
# Without Gradio's own checks, a wrong number gets the server's message in the page.
ASKING: dict[str, Any] = {"preprocess": False, **QUIETLY}


class Learning(NamedTuple):
    """What is learned from visitors.

    mount_editor: puts an editor where it is called. It takes components, and a function that makes
        of their values the photo on show, what was found in it and what answered; or None.
    keep: is told what was found, and may keep photos; None: none are kept unless a visitor says so.
    """

    mount_editor: Callable[[Sequence[Component], Callable[..., Found | None]], Any]
    keep: Callable[[Sequence[Found]], None] | None = None


HEADER = """
<header><h1>{title}</h1>
<p>Drop a photo: its bytes go unchanged to an NVIDIA Triton server, which decodes it, runs an SSD
object detection network and answers with boxes. {purpose}</p>
</header>"""
SHIPPED = """The model that comes with the project finds red blood cells (RBC), white blood cells
(WBC) and platelets in microscope pictures of blood."""
KEPT = "Photos that it is unsure of are kept on this page's server, for people to correct."
LABELS_SHOWN = 10
IOU = 0.45  # where no server tells its own


class Sliders(NamedTuple):
    """What all tabs share, with the server's defaults."""

    score: gr.Slider
    iou: gr.Slider
    most: gr.Slider


class PhotoInput(NamedTuple):
    """Where photos come in, and the paths of those on show, so that the drop zone stays free."""

    paths: gr.State  # list[str]
    drop: gr.File
    gallery: gr.Dataset


def build_page(
    detector: Detector,
    samples: list[Path],
    learning: Learning | None = None,
    labels: Sequence[str] = (),
    metrics: Callable[[], str] | None = None,
    linked: Path | None = None,
) -> gr.Blocks:
    """The page around one detector, which all visitors share (it is thread-safe).

    Args:
        detector: of the stable ensemble.
        samples: photos to click on.
        learning: from corrections, and from what the model is unsure of; None: from nothing.
        labels: what the model finds, to be told; none: it is told of the model that is shipped.
        metrics: gives those of `serving up`, of which a line is shown; None: there are none.
        linked: folder of photos that a link may open, as `linked.find_linked` does; None: none may.
    """
    facts = Facts(detector)
    sliders = threshold_sliders(facts.iou_threshold(IOU))
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        told = (purpose(labels) if labels else SHIPPED, KEPT if learning and learning.keep else "")
        gr.HTML(HEADER.format(title=TITLE, purpose=" ".join(told)))
        if metrics:
            line = gr.HTML(elem_id="supervision")
            page.load(partial(describe_supervision, metrics), None, line, **QUIETLY)
        with gr.Row(elem_id="page"):
            with gr.Column(elem_id="input"), gr.Tabs():
                with tab("photos"):
                    photos = photo_input("photos", samples, "multiple")
                    detect = gr.Button("Detect again", variant="primary", elem_id="again")
                with tab("compare"):
                    photo = photo_input("compare", samples, "single")
                    models = model_names(detector.model)
                    compare = gr.Button("Compare again", variant="primary", elem_id="compare-again")
                with tab("camera"):
                    gr.HTML("<p>What your camera sees, with boxes, live.</p>")
                with tab("video"):
                    clip = gr.File(label=f"Clip, {VIDEO_LIMIT} MB at most", elem_id="clip")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(elem_id="result"):
                then = on_photos(detector, facts, photos, sliders, detect, samples, learning)
                on_compare(detector, facts, photo, sliders, compare, models, samples)
                view("camera", {}, frames_to(detector))
                on_video(detector, clip, sliders, stop)
            with gr.Column(elem_id="settings"):
                for slider in sliders:
                    slider.render()
        if linked:
            on_link(page, linked, photos, then)
        act_in_the_browser(sliders)
        gr.api(detection_by(detector), api_name="detect", concurrency_limit=AT_ONCE)
    return page.queue(max_size=100, default_concurrency_limit=AT_ONCE)


# ---------------------------------------------------------------- parts


def purpose(labels: Sequence[str]) -> str:
    """A sentence that names what a model finds."""
    shown = [html.escape(label) for label in labels[:LABELS_SHOWN]]
    more = len(labels) - len(shown)
    return f"This model finds {', '.join(shown)}{f' and {more} more' if more else ''}."


def tab(name: str) -> gr.Tab:
    """A tab for what comes in; results stand elsewhere, and page.css shows the chosen one's."""
    chosen = gr.Tab(name.capitalize(), id=name, elem_id=f"{name}-tab")
    chosen.select(
        None, js=f"() => {{ document.getElementById('page').dataset.tab = '{name}'; }}", **QUIETLY
    )
    return chosen


def photo_input(name: str, samples: list[Path], count: Any) -> PhotoInput:
    """A drop zone and thumbnails to click on; `count` is "single" or "multiple"."""
    return PhotoInput(
        gr.State([]),
        gr.File(
            label=f"{'Photos' if count == 'multiple' else 'Photo'}, {PHOTO_LIMIT} MB at most",
            file_count=count,
            height=165,
            elem_id=f"{name}-drop",
        ),
        gr.Dataset(
            label="Examples",
            components=[gr.Image(render=False, type="filepath")],
            samples=[[str(sample)] for sample in samples],
            samples_per_page=12,
            type="index",
            visible=bool(samples),
            elem_id=f"{name}-examples",
        ),
    )


def model_names(stable: str) -> list[gr.Dropdown]:
    """Two ensembles to compare."""
    both = [stable, canary.name_of(stable)]
    return [
        gr.Dropdown(both, value=both[0], allow_custom_value=True, label="One", elem_id="one"),
        gr.Dropdown(both, value=both[1], allow_custom_value=True, label="Other", elem_id="other"),
    ]


def threshold_sliders(iou: float) -> Sliders:
    """To be rendered where they are wanted; iou: where its slider begins."""
    return Sliders(
        gr.Slider(FLOOR, 1, 0.5, step=0.01, label="Score threshold", elem_id="score", render=False,
                  info="Hide what the model is less sure of."),
        gr.Slider(0, 1, iou, step=0.01, label="IoU threshold", elem_id="iou", render=False,
                  info="Merge boxes of one class that overlap more than this. Asks the server."),
        gr.Slider(1, 100, 100, step=1, label="Detections at most", elem_id="most", render=False),
    )  # fmt: skip


# ---------------------------------------------------------------- what happens


def act_in_the_browser(sliders: Sliders) -> None:
    """Every movement reaches the scripts at once, without a way over the network."""
    gr.on(
        [slider.change for slider in sliders],
        None,
        list(sliders),
        js="(score, iou, most) => changeSettings(score, iou, most)",
        **QUIETLY,
    )


def on_new_photos(photos: PhotoInput, samples: list[Path], then: dict[str, Any]) -> None:
    """A dropped photo or a clicked example is asked about at once."""

    def dropped(paths: Any) -> tuple[list[str], None]:
        return ([paths] if isinstance(paths, str) else list(paths)), None

    photos.drop.upload(dropped, photos.drop, [photos.paths, photos.drop], **QUIETLY).then(**then)
    photos.gallery.click(
        lambda index: [str(samples[index])], photos.gallery, photos.paths, **QUIETLY
    ).then(**then)


def on_link(page: gr.Blocks, folder: Path, photos: PhotoInput, then: dict[str, Any]) -> None:
    """The photo that the page's address names is asked about at once."""

    def find(request: gr.Request) -> list[str]:
        return find_linked(folder, request)

    page.load(find, None, photos.paths, **QUIETLY).then(**then)


def on_photos(
    detector: Detector,
    facts: Facts,
    photos: PhotoInput,
    sliders: Sliders,
    again: gr.Button,
    samples: list[Path],
    learning: Learning | None,
) -> dict[str, Any]:
    """Photos and what was found in them. Returns the event that asks about `photos`."""

    def find(paths: list[str], iou: float | None) -> Iterator[tuple[dict[str, Any], Any]]:
        answered: list[Found] = []
        for value, answered in answers(detector, facts, paths, iou):
            yield value, answered
        if learning and learning.keep:
            learning.keep(answered)

    def choose(event: gr.SelectData) -> Any:
        return event.index

    def draw(event: gr.EventData, found: list[Found]) -> dict[str, Any]:
        return drawing(found, event._data)

    drawn = view("drawing", {}, of="photos")
    shown = view("photos", {"photos": []})
    found, index = gr.State([]), gr.State(0)
    then = {
        "fn": find,
        "inputs": [photos.paths, sliders.iou],
        "outputs": [shown, found],
        **ASKING,
    }
    on_new_photos(photos, samples, then)
    # While a slider moves, only its newest value counts.
    gr.on([again.click, sliders.iou.change], trigger_mode="always_last", **then)
    shown.draw(draw, found, drawn, concurrency_limit=DRAWINGS_AT_ONCE, **QUIETLY)
    if learning:
        # All of them, in their order: another mode drops those that come while one is under way.
        shown.select(choose, None, index, trigger_mode="multiple", concurrency_limit=1, **QUIETLY)
        with gr.Column(elem_classes=["tab-result", "of-photos"]):
            learning.mount_editor([found, index, sliders.score, sliders.most], on_show)
    return then


def on_show(found: list[Found], index: int, score: float, most: int) -> Found | None:
    """The photo that somebody looks at, and what is shown of it; None where there is nothing."""
    known = type(index) is int and 0 <= index < len(found)  # a browser says which
    shown = found[index] if known else None
    if shown is None or shown.result is None:
        return None
    return shown._replace(result=filtered(shown.result, score, most))


def on_compare(
    detector: Detector,
    facts: Facts,
    photo: PhotoInput,
    sliders: Sliders,
    again: gr.Button,
    models: list[gr.Dropdown],
    samples: list[Path],
) -> None:
    """One photo, two ensembles."""

    def compare(paths: list[str], iou: float | None, one: str, other: str) -> dict[str, Any]:
        return comparison(detector, facts, paths, iou, (one, other))

    shown = view("compare", {})
    inputs = [photo.paths, sliders.iou, *models]
    then = {"fn": compare, "inputs": inputs, "outputs": shown, **ASKING}
    on_new_photos(photo, samples, then)
    triggers = [again.click, sliders.iou.change, *(model.input for model in models)]
    gr.on(triggers, trigger_mode="always_last", **then)


def on_video(detector: Detector, clip: gr.File, sliders: Sliders, stop: gr.Button) -> None:
    """A clip in, the clip with boxes out."""

    def annotate(path: str | None, score: float, iou: float, most: int) -> Iterator[dict[str, Any]]:
        yield from annotated(
            detector,
            path,
            {"score_threshold": score, "iou_threshold": iou, "max_detections": most},
        )

    shown = view("video", {})
    running = clip.upload(lambda: WAITING, None, shown, **QUIETLY).then(
        annotate, [clip, *sliders], shown, concurrency_limit=VIDEOS_AT_ONCE, **QUIETLY
    )
    stop.click(dict, None, shown, cancels=[running], **QUIETLY)


# ---------------------------------------------------------------- how it looks


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
