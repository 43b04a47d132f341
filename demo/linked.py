"""A photo that a link names, such as the report's: /?photo=worst-03.jpg, of one folder."""

from pathlib import Path

import gradio as gr

PARAMETER = "photo"


def find_linked(folder: Path, request: gr.Request) -> list[str]:
    """The path of the photo that the page's address names; empty where it names none.

    Args:
        folder: whose photos may be named, not those of its subfolders.
        request: a visitor's, who may have written anything at all.
    """
    name = request.query_params.get(PARAMETER)
    found = [str(path) for path in folder.iterdir() if path.name == name and path.is_file()]
    if name and not found:
        gr.Warning("The folder that this page was started with (--photos) has no such photo.")
    return found
