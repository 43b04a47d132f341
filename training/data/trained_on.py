"""Which photos a network was trained on, so that no mAP on them is taken for one on others.

A photo is known again by its file's content, as `records.photo_id` shortens it, whatever it is
called and wherever its records lie. A run writes its photos into run.json, together with those of
the run that it started from; an export writes them into the card, and so into the network's
metadata, where `serving` finds them. Those of records that other tools wrote, or of a run of before
there was this, are not known to be all: `complete` is false.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from training.data import records


@dataclass(frozen=True)
class TrainedOn:
    """The photos, and whether these are all."""

    photos: frozenset[str] = frozenset()
    complete: bool = False

    def also(self, manifest: records.Manifest) -> "TrainedOn":
        """These, and the images of a split."""
        return TrainedOn(self.photos.union(records.photos(manifest)), self.complete)

    def count(self, photos: Iterable[str]) -> int | None:
        """How many of these photos it was trained on; None where that is not known."""
        found = sum(photo in self.photos for photo in photos)
        return found if found or self.complete else None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in run.json and on a card."""
        return {"complete": self.complete, "photos": sorted(self.photos)}


NOTHING = TrainedOn(complete=True)  # random weights


def of_facts(facts: Mapping[str, Any]) -> TrainedOn:
    """What run.json or a network's metadata says; there it is text."""
    found = facts.get("trained_on") or {}
    found = json.loads(found) if isinstance(found, str) else found
    return TrainedOn(frozenset(found.get("photos", ())), bool(found.get("complete")))
