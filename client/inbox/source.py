"""Where boxes come from, as Pascal VOC's <source> has it: labelImg and others pass it over."""

from datetime import UTC, datetime


def tell_source(author: str, version: str = "", **more: str) -> dict[str, str]:
    """The tags of <source>.

    Args:
        author: who made the boxes.
        version: what answered for the photo, as `Service.versions` tells it.
        more: further tags; empty ones are left out.
    """
    told = {"author": author, "time": tell_time(), "version": version} | more
    return {"database": "corrections"} | {tag: text for tag, text in told.items() if text}


def tell_time() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
