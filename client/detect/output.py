"""The file or folder that a run over many photos makes, by way of a journal beside it.

The journal `OUTPUT.journal` is written as the results come. Once all photos have an entry, the
output is made of it, in the order of the photos, under the name `.OUTPUT.partial`, and gets its own
name when it is whole. So a run can end at any moment: what has its name is whole, and the journal
knows where to go on. It stays for as long as photos failed, to try these again.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from client.detect.formats import (
    Format,
    coco,
    guess_format,
    rows,
    voc,
    yolo,
)
from client.detect.journal import Entry, Journal
from client.errors import DetectorError, InvalidParameter

Write = Callable[[Iterable[Entry], Path], None]


class Output:
    """A path, and what is to be written there.

    Args:
        path: must not be there yet.
        form: the format, None: what the suffix names.
        coco_ids: a COCO file whose ids a list of COCO results shall have; None: a whole document.

    Raises:
        InvalidParameter: no format is named, or the ids cannot be read.
    """

    def __init__(self, path: Path, form: Format | None, coco_ids: Path | None) -> None:
        self.path = path
        self.form = form or guess_format(path)
        if coco_ids and self.form != "coco":
            raise InvalidParameter(f"--coco-ids is for --format coco, but this is {self.form}")
        self._ids = coco.read_ids(coco_ids) if coco_ids else None
        self._journal = path.with_name(f"{path.name}.journal")
        self._partial = path.with_name(f".{path.name}.partial")

    @property
    def made(self) -> tuple[Path, Path]:
        """Where photos may lie that were put there by a run before."""
        return self.path, self._partial

    def wanted(self, photos: Iterable[Path]) -> list[Path]:
        """Return the photos that are to be in the output, each once: with ids, those that have one.

        Raises:
            InvalidParameter: there are ids, but none for any photo.
        """
        photos = list(dict.fromkeys(photos))
        if self._ids is None or not photos:
            return photos
        found = [photo for photo in photos if self._ids.image(photo) is not None]
        if not found:
            raise InvalidParameter(
                f"--coco-ids has no image for {photos[0]} or any other photo: "
                "a file_name must be the end of a photo's path"
            )
        return found

    @contextmanager
    def journal(self, settings: Mapping[str, Any], *, resume: bool) -> Iterator[Journal]:
        """Open the journal. What ends the run has a note that says how to go on.

        Args:
            settings: what the results depend on; those of the run that is resumed must be the same.
            resume: go on where there is a journal.

        Raises:
            InvalidParameter: there is an output already, a journal without `resume`, or one of a
                run with other settings.
            DetectorError: the disk is full, or may not be written to.
        """
        self._check(resume)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with Journal(self._journal, settings) as journal:
                try:
                    yield journal
                except (DetectorError, KeyboardInterrupt, OSError) as error:
                    _note(error, journal)
                    raise
        except BrokenPipeError:
            raise
        except OSError as error:
            said = DetectorError(f"{error.filename or self.path}: {error.strerror}")
            said.__notes__ = getattr(error, "__notes__", [])
            raise said from None

    def write(self, journal: Journal, photos: Sequence[Path]) -> None:
        """Make the output of the entries of these photos, and be done with a journal of results."""
        _remove(self._partial)
        self._writer()(_Entries(journal, photos, self.path.name), self._partial)
        self._partial.replace(self.path)
        if all(map(journal.done, photos)):
            journal.remove()

    def _check(self, resume: bool) -> None:
        again = self._journal.exists()
        if again and not resume:
            raise InvalidParameter(
                f"{self._journal} is of a run that has not ended: go on with --resume, "
                "or name another --output"
            )
        # A folder may hold a user's work by now; a file is replaced as a whole.
        if self.path.exists() and (not again or self.path.is_dir()):
            advice = "move it away to make it anew" if again else "name another --output"
            raise InvalidParameter(f"{self.path} exists already: {advice}")

    def _writer(self) -> Write:
        if self.form == "coco":
            if self._ids:
                return partial(coco.write_results, ids=self._ids)
            return partial(coco.write_document, folder=self.path.parent)
        writers: dict[Format, Write] = {
            "jsonl": rows.write_jsonl,
            "csv": rows.write_csv,
            "voc": voc.write_voc,
            "yolo": yolo.write_yolo,
        }
        return writers[self.form]


@dataclass(frozen=True)
class _Entries:
    """The entries of photos, read from the journal each time anew, under a progress bar."""

    journal: Journal
    photos: Sequence[Path]
    name: str  # of what is written

    def __iter__(self) -> Iterator[Entry]:
        entries, total = self.journal.entries(self.photos), len(self.photos)
        what = f"writing {self.name}"
        return iter(tqdm(entries, what, total, leave=False, unit="photo", disable=None))


def _note(error: BaseException, journal: Journal) -> None:
    if len(journal):
        error.add_note(
            f"Photos done: {len(journal)}, kept in {journal.path}. "
            "The same command with --resume goes on from there."
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
