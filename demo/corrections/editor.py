"""The editor of corrections: boxes are drawn, moved, removed and renamed over the photo, and saved;
and what others have saved is accepted or refused.

It is one `gr.HTML` whose markup, style and scripts lie beside this file. The server sends it

    {"image", "name", "photo", "width", "height", "classes", "boxes", "notice"}   a photo to correct
    {"image", "notice"}                                     what became of saving, or why it cannot

With a photo that is to be reviewed come "counting", the boxes that count so far, and "history". It
sends back the event "save" with {"image", "boxes"}, and a reviewer's "decide" with {"image", "did",
"boxes"}. Nothing of that is believed: the photo is the one that the server remembers for this
visitor, `demo.corrections.boxes` checks every box, and who may decide is found out each time.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context

from client import Result
from client.inbox.photo import image_id
from client.inbox.voc_xml import whole_pixels
from demo import pictures
from demo.corrections.boxes import CorrectedBox, CorrectionError
from demo.corrections.folder import Corrections, Draft
from demo.corrections.people import OWNER, People, Person
from demo.corrections.review import Case, ChangedError, Review
from demo.messages import explained
from demo.photos import Found
from demo.views import QUIETLY

HERE = Path(__file__).parent
SCRIPTS = ("boxes", "shapes", "gestures", "editor")  # in their order
SAID = {
    "accepted": "Saved with {}. Thank you.",
    "proposed": "Saved with {}. Thank you. They count when somebody else has accepted them.",
    "beside": "Somebody else has saved other boxes for this photo since you opened it, and those "
    "count. Yours ({}) are kept beside them, and wait to be reviewed.",
}


@dataclass(frozen=True)
class Opened:
    """What a visitor has open, as the server remembers it; `case` is None where it is no review."""

    image: str
    path: Path
    draft: Draft = field(default_factory=Draft)
    version: str = ""
    case: Case | None = None


Answer = tuple[Opened | None, dict[str, Any]]


def correction_editor(
    corrections: Corrections,
    shown: Sequence[Component],
    current: Callable[..., Found | None],
    people: People = People(),  # noqa: B008 (it cannot change)
) -> None:
    """Buttons that open the editor, and below them the editor; all where this is called.

    Args:
        corrections: where to store.
        shown: components, `gr.State` most of all, that tell which photo the visitor sees.
        current: makes of their values what the visitor sees, or None.
        people: tells who somebody is.
    """
    review = Review(corrections)

    def show(request: gr.Request, *values: Any) -> Answer:
        return photo_to_correct(corrections, current(*values), people.identify(request))

    def save(event: gr.EventData, request: gr.Request, opened: Opened | None) -> Answer:
        return answer(corrections, sent_by(event), opened, people.identify(request))

    def open_first(request: gr.Request) -> Answer:
        return proposal_to_review(review, people.identify(request))

    def decide_about(event: gr.EventData, request: gr.Request, opened: Opened | None) -> Answer:
        return decide(review, sent_by(event), opened, people.identify(request))

    def count(request: gr.Request) -> Any:
        try:
            waiting = len(review.list_names(people.identify(request)))
        except CorrectionError:  # what is clicked next says so
            return gr.skip()
        return gr.update(value=f"Review what is proposed ({waiting})", visible=waiting > 0)

    opened = gr.State(None)
    with gr.Row():
        button = gr.Button("Correct the boxes", elem_id="correct")
        waiting = gr.Button("Review", elem_id="review", visible=False)
    editor = gr.HTML(
        html_template=(HERE / "editor.html").read_text(encoding="utf-8"),
        css_template=(HERE / "editor.css").read_text(encoding="utf-8"),
        js_on_load="".join((HERE / f"{name}.js").read_text("utf-8") for name in SCRIPTS),
        apply_default_css=False,
        elem_id="corrections",
    )
    button.click(show, list(shown), [opened, editor], **QUIETLY)
    waiting.click(open_first, None, [opened, editor], **QUIETLY)
    for happened, act in ((editor.save, save), (editor.decide, decide_about)):
        happened(act, opened, [opened, editor], **QUIETLY).then(count, None, waiting, **QUIETLY)
    if Context.root_block:
        Context.root_block.load(count, None, waiting, **QUIETLY)


# ---------------------------------------------------------------- correcting


def photo_to_correct(corrections: Corrections, shown: Found | None, by: Person = OWNER) -> Answer:
    """The photo with the boxes that were stored for it before, else with those that were found."""
    if shown is None or shown.result is None:
        return None, notice("", "Choose a photo first.")
    path, result = Path(shown.path), shown.result
    try:
        photo = pictures.read_photo(str(path))
        copy = pictures.copies(str(path), photo)["image"]
    except Exception as error:
        return None, notice("", explained(error, path.name)["text"])
    try:
        draft = corrections.open(photo, by)
    except CorrectionError as error:
        return None, notice("", str(error))
    opened = Opened(image_id(photo), path, draft, shown.version)
    before = ""
    if draft.boxes is not None:
        before = "Somebody has corrected this photo before: these are the boxes that were saved."
    if draft.proposal:
        before = "You have corrected this photo before: these are your boxes, not accepted yet."
    return opened, {
        **notice(opened.image, before, kind="hint"),
        **picture(path.name, copy, result.width, result.height, corrections.labels),
        "boxes": plain(found_boxes(result) if draft.boxes is None else draft.boxes),
    }


def answer(
    corrections: Corrections, sent: dict[str, Any], opened: Opened | None, by: Person = OWNER
) -> Answer:
    """Stores what a browser sent, for the photo that it was given; tells what became of it."""
    image = str(sent.get("image"))
    if opened is None or opened.image != image or opened.case:
        text = "Another photo has been opened since. Please open this one again."
        return opened, notice(image, text)
    try:
        photo = pictures.read_photo(str(opened.path))
        boxes, draft, version = sent.get("boxes"), opened.draft, opened.version
        saved = corrections.save(photo, boxes, by, draft, version)
    except CorrectionError as error:
        return opened, notice(image, str(error))
    except Exception as error:
        return opened, notice(image, explained(error, opened.path.name)["text"])
    text = SAID[saved.state].format(number_of(saved.boxes))
    return replace(opened, draft=saved.draft), notice(image, text, kind="saved")


# ---------------------------------------------------------------- reviewing


def proposal_to_review(
    review: Review, by: Person, names: Sequence[str] | None = None, text: str = ""
) -> Answer:
    """The first of some proposals that is still there.

    Args:
        review: of the inbox.
        by: who reviews.
        names: of proposals; None: all that this person may accept.
        text: what became of the one before.
    """
    try:
        for name in review.list_names(by) if names is None else names:
            if case := review.open_case(name):
                return _show_case(review, case, text)
    except CorrectionError as error:
        return None, notice("", f"{text} {error}".strip())
    except Exception as error:
        return None, notice("", explained(error, "The photo")["text"])
    return None, notice("", f"{text} Nothing is left to review.".strip(), kind="saved")


def decide(review: Review, sent: dict[str, Any], opened: Opened | None, by: Person) -> Answer:
    """Does with a proposal what a reviewer's browser asks for, and opens the next one."""
    image, case = str(sent.get("image")), opened.case if opened else None
    if opened is None or case is None or opened.image != image:
        return opened, notice(image, "Another photo has been opened since. Please review again.")
    try:
        names = review.list_names(by)
        here = names.index(case.proposal.name) if case.proposal.name in names else -1
        text = _act(review, case, sent, by)
    except ChangedError as error:
        return _open_again(review, opened, case, str(error))
    except CorrectionError as error:
        return opened, notice(image, str(error))
    except Exception as error:
        return opened, notice(image, explained(error, "The photo")["text"])
    return proposal_to_review(review, by, names[here + 1 :], text)


def _act(review: Review, case: Case, sent: dict[str, Any], by: Person) -> str:
    match sent.get("did"):
        case "accept":
            return f"Accepted with {number_of(review.accept(case, sent.get('boxes'), by))}."
        case "refuse":
            review.refuse(case, by)
            return "Refused."
        case "skip":
            return ""
    raise CorrectionError("The page asked for something else. Please load it anew.")


def _open_again(review: Review, opened: Opened, case: Case, text: str) -> Answer:
    """What others have changed meanwhile, beside the boxes that the reviewer has drawn."""
    now = None
    with suppress(CorrectionError):  # what happened is told all the same
        now = review.open_case(case.proposal.name)
    if now is None or now.proposal.digest != case.proposal.digest:
        return opened, notice(opened.image, text)
    told = {**notice(opened.image, text), "counting": plain(now.counting or ())}
    return replace(opened, case=now), told


def _show_case(review: Review, case: Case, text: str) -> Answer:
    proposal, labels = case.proposal, review.labels
    copy = pictures.copies(str(case.image), review.read_photo(case))["image"]
    unsure = proposal.source.get("uncertainty")
    title = f"{number_of(len(proposal.boxes))}, proposed by {proposal.author or 'somebody'}"
    if unsure:
        title = f"{number_of(len(proposal.boxes))}, found by the model, which is unsure ({unsure})"
    opened = Opened(proposal.name, Path(case.image), case=case)
    return opened, {
        **notice(proposal.name, text, kind="saved"),
        **picture(title, copy, proposal.width, proposal.height, labels),
        "boxes": plain(proposal.boxes),
        "counting": plain(case.counting or ()),
        "history": review.tell_history(proposal.photo),
    }


# ---------------------------------------------------------------- what is sent


def picture(
    name: str, copy: dict[str, Any], width: int, height: int, labels: Sequence[str]
) -> dict[str, Any]:
    """A photo for the editor, and the classes to choose from."""
    classes = [{"label": label, **pictures.css(k)} for k, label in enumerate(labels)]
    return {"name": name, "photo": copy, "width": width, "height": height, "classes": classes}


def plain(boxes: Sequence[CorrectedBox]) -> list[dict[str, Any]]:
    """Boxes as JSON has them."""
    return [asdict(box) for box in boxes]


def sent_by(event: gr.EventData) -> dict[str, Any]:
    """What a browser sent with an event, if it is anything of ours."""
    return event._data if isinstance(event._data, dict) else {}


def number_of(count: int) -> str:
    """How many boxes, in words."""
    return "1 box" if count == 1 else f"{count} boxes"


def notice(image: str, text: str, kind: str = "error") -> dict[str, Any]:
    """A sentence for the editor; `kind` is "hint", "saved" or "error"."""
    at = time.time_ns()  # so that the same sentence twice is news both times
    return {"image": image, "notice": {"kind": kind, "text": text, "at": at}}


def found_boxes(result: Result) -> tuple[CorrectedBox, ...]:
    """Detections in whole pixels, as large as they must at least be to be stored."""
    boxes = []
    for found in result.detections:
        x1, x2 = whole_pixels(found.box.x1, found.box.x2, result.width)
        y1, y2 = whole_pixels(found.box.y1, found.box.y2, result.height)
        boxes.append(CorrectedBox(found.label, x1, y1, x2, y2))
    return tuple(boxes)
