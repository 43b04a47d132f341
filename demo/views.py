"""The scripts and the style of the page, and the places where the scripts draw."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from client.detect.files import SUFFIXES, VIDEO_SUFFIXES

HERE = Path(__file__).resolve().parent
# Of events: no spinner over the page, no endpoint for programs.
QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
STYLE = HERE / "page.css"
# In their order: each knows what stands before it.
SCRIPTS = (
    "dropzones",
    "examples",
    "element",
    "settings",
    "boxes",
    "size_histogram",
    "downloads",
    "drawing",
    "photos",
    "compare",
    "camera",
    "video",
)
# What each drop zone takes, by its elem_id.
FORMATS = {
    "photos-drop": ",".join(sorted(SUFFIXES)),
    "compare-drop": ",".join(sorted(SUFFIXES)),
    "clip": ",".join(sorted(VIDEO_SUFFIXES)),
}
# Gradio drops @container rules from style sheets.
SMALL_BOXES = "@container (max-width: 50px) { .name:not(:hover, .picked) span { display: none; } }"


def head() -> str:
    """HTML for the page's head."""
    return f"<style>{SMALL_BOXES}</style>"


def view(name: str, value: dict[str, Any], *functions: Callable[..., Any], of: str = "") -> gr.HTML:
    """A place where the script of this name draws `value`, now and whenever it changes.

    Args:
        name: "photos" for photos.js and its class PhotosView.
        value: what the script's `show` takes; anything that JSON can carry.
        functions: of this program, that the script may call.
        of: the tab that it stands under, where that has another name.
    """
    return gr.HTML(
        value,
        html_template="<div></div>",
        js_on_load=f"""
            const chosen = (index) => trigger("select", {{ index, value: index }});
            const draw = (asked) => trigger("draw", asked);
            const view = new {name.capitalize()}View(element, server, chosen, draw);
            const show = () => view.show(props.value);
            watch("value", show);
            show();""",
        head=_scripts(),
        apply_default_css=False,
        server_functions=list(functions),
        elem_id=f"{name}-result",
        elem_classes=["tab-result", f"of-{of or name}"],
    )


def _scripts() -> str:
    """Gradio puts the same text into the page only once, and before anything is drawn."""
    texts = ((HERE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return f"<script>{''.join(texts)}nameFormats({json.dumps(FORMATS)});</script>"
