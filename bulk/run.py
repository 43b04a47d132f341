"""The command: lists photos once, has the parts made that are not there, and tells what became.

Which photos belong to which part is written down first, and each part is created as one whole file.
So each photo is in the output once, whatever ends workers or the command, and the same command goes
on.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dask.system import CPU_COUNT
from tqdm import tqdm

from bulk.engine import detect_parts, open_workers
from bulk.errors import BulkError, PartsError
from bulk.listing import NAME, Changes, Listing, Part, is_photo, write_listing
from bulk.place import Entry, Place, open_place
from bulk.settings import Bulk, find_network
from bulk.task import Done, Task
from client.detect.files import SUFFIXES

NAMED = 5  # kinds of files that are passed over, in a message
PATIENCE = 3  # parts that may fail; more, and no further ones are begun


def run_bulk(settings: Bulk) -> int:
    """Detect in all photos and return the exit code.

    Raises:
        BulkError: there are no photos, the output is another run's, or parts are not done.
        DetectorError: the network cannot be used.
        StoreError: a place is away or denies access.
    """
    settings.check()
    photos, output = open_place(settings.photos), open_place(settings.output)
    network = None
    if settings.local:
        network = find_network(settings.local, settings.model, settings.version)
    listed = _list_once(photos, output, settings.decisive(photos.address, network))
    task = Task(settings, photos.address, output.address, listed.digest, network)
    run = _detect_listed(task, listed)
    _tell(f"{output.address}: {run}")
    return 1 if run.failed else 0


@dataclass
class Run:
    """What has become of the photos so far.

    Attributes:
        whys: of parts that are not done, and how many each reason ended.
    """

    photos: int = 0
    failed: int = 0
    fresh: int = 0  # photos detected in by this command, not by one before
    whys: Counter[str] = field(default_factory=Counter)
    begin: float = field(default_factory=time.monotonic)

    def add(self, outcome: Done | str) -> int:
        """Count a part in; returns its photos that are done."""
        if isinstance(outcome, str):
            self.whys[outcome] += 1
            return 0
        photos, failed = outcome.counts
        self.photos += photos
        self.failed += failed
        self.fresh += photos * outcome.fresh
        return photos

    def __str__(self) -> str:
        rows = f", {self.failed:,} of them rows with an error" if self.failed else ""
        rate = self.fresh / (time.monotonic() - self.begin)
        speed = f"{self.fresh:,} now, {rate:.1f} photos/s" if self.fresh else "all of them before"
        return f"{self.photos:,} photos{rows}; {speed}"


def _detect_listed(task: Task, listed: Listing) -> Run:
    settings, run = task.settings, Run()
    with (
        tqdm(total=len(listed), unit="photo", disable=None, leave=False) as bar,
        open_workers(settings.cluster, settings.workers or CPU_COUNT) as client,
    ):
        parts = _take_while_well(listed, run)
        for part, outcome in detect_parts(client, task, parts):
            bar.update(run.add(outcome))
            bar.set_postfix(failed=run.failed, refresh=False)
            if isinstance(outcome, str):
                _tell(f"{part.name} is not done: {outcome}")
    if run.photos < len(listed):
        raise PartsError(
            f"{task.output}: {run.photos:,} of {len(listed):,} photos are done; "
            "the same command goes on"
        )
    return run


def _take_while_well(listed: Listing, run: Run) -> Iterator[Part]:
    for part in listed.iterate_parts():
        if run.whys.total() >= PATIENCE:
            return
        yield part


def _list_once(photos: Place, output: Place, settings: dict[str, Any]) -> Listing:
    """Return the output's listing, made where there is none."""
    if there := output.find(NAME):
        listed = Listing(there, output.address)
        listed.check_settings(settings)
        _tell_changes(listed.compare(filter(is_photo, photos.entries())), photos, output)
        return listed
    others: Counter[str] = Counter()
    data = write_listing(_iterate_photos(photos, others), settings, settings["part"])
    if not len(Listing(data, output.address)):
        raise BulkError(f"{photos.address}: no photos there ({' '.join(sorted(SUFFIXES))})")
    output.create(NAME, data)
    if others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(NAMED))
        _tell(f"{photos.address}: passed over {others.total():,} files that are no photos: {kinds}")
    return Listing(output.find(NAME) or data, output.address)  # another run may have been faster


def _iterate_photos(place: Place, others: Counter[str]) -> Iterator[Entry]:
    """Yield the photos, and count the other files by their suffix."""
    for entry in place.entries():
        if is_photo(entry):
            yield entry
        else:
            others[PurePosixPath(entry.path).suffix or "without a suffix"] += 1


def _tell_changes(changes: Changes, photos: Place, output: Place) -> None:
    if any(changes):
        _tell(
            f"{photos.address} has changed since {output.address} was begun: {changes.added:,} "
            f"photos added, which are not taken in (they need an --output of their own); "
            f"{changes.gone:,} gone, {changes.changed:,} changed, whose parts may be done already "
            "(the column sha256 tells what was read)"
        )


def _tell(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
