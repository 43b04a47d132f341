"""The second pair of eyes: what is proposed, looked at, and accepted or refused.

Who proposed boxes does not accept them, unless that person may accept their own. A reviewer who
has changed what somebody else proposed accepts it all the same: two people have seen the photo.

Raises: `CorrectionError`, with a sentence for the reviewer; `ChangedError` where somebody else was
quicker, and nothing has been done.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from client.inbox.inbox import SAMPLES, sort_samples
from client.inbox.samples import SERVICE
from client.inbox.source import tell_time
from demo.corrections.annotations import Annotation, read_annotation, write_annotation
from demo.corrections.boxes import CorrectedBox, CorrectionError, check_boxes
from demo.corrections.folder import Corrections, author_tag
from demo.corrections.people import Person

# What became of boxes that lie in the history.
PAST = {".accepted": "as it was proposed", ".refused": "gone", ".replaced": "others count since"}


class ChangedError(CorrectionError):
    """Somebody else has changed, since the reviewer opened it, what was to be decided."""


@dataclass(frozen=True)
class Case:
    """A proposal that a reviewer has open.

    Attributes:
        proposal: what is proposed.
        image: its photo's file in the inbox.
        counting: the boxes that count so far; None where none do.
        accepted: what tells them from others, empty where there are none.
    """

    proposal: Annotation
    image: PurePosixPath
    counting: tuple[CorrectedBox, ...] | None
    accepted: str


class Review:
    """What waits in a folder of corrections."""

    def __init__(self, corrections: Corrections) -> None:
        self.labels = corrections.labels
        self._corrections = corrections
        self._inbox = corrections.inbox

    def list_names(self, by: Person) -> list[str]:
        """The proposals that somebody may accept: people's, the oldest first, then the model's,
        the least sure first.
        """
        if not by.may_review:
            return []
        with self._corrections.explaining("what is proposed"):
            times = self._inbox.proposals.times()
        samples = sort_samples(times)[::-1]
        names = sorted(set(times).difference(samples), key=lambda name: (times[name], name))
        return [name for name in names if not _is_own(name, by)] + samples

    def open_case(self, name: str) -> Case | None:
        """A proposal as it is now, which from now on gives way to no other; None: it is gone."""
        with self._corrections.storing(name):
            name = self._claim(name)
            proposal = self._corrections.read_proposal(name)
            image = self._inbox.proposals.image(name)
            if proposal is None or image is None:
                return None
            accepted = self._corrections.digest_of_accepted(proposal.photo)
            counting = self._corrections.read_accepted(proposal.photo)
            return Case(proposal, image, counting.boxes if counting else None, accepted)

    def accept(self, case: Case, boxes: Any, by: Person) -> int:
        """Make boxes count, the proposed ones or what the reviewer made of them; return how many.

        Args:
            case: as it was opened.
            boxes: as a browser sent them, and so anything at all.
            by: the reviewer.
        """
        proposal = case.proposal
        self._check(by, proposal)
        size = proposal.width, proposal.height
        checked = check_boxes(boxes, self._corrections.labels, *size)
        source = dict(proposal.source)
        if checked != proposal.boxes:
            source["changed_by"] = by.name
        made = replace(proposal, name=proposal.photo, boxes=checked, source=source)
        with self._corrections.storing(proposal.name):
            self._check_unchanged(case)
            if self._corrections.digest_of_accepted(proposal.photo) != case.accepted:
                raise ChangedError(
                    "Somebody else has accepted other boxes for this photo since you opened it: "
                    "they are dashed now. Accept again, and yours take their place."
                )
            self._corrections.place_accepted(made, case.image, by)
            if "changed_by" in source:
                self._note(case, "accepted", by)
            self._inbox.proposals.remove(proposal.name)
        return len(checked)

    def refuse(self, case: Case, by: Person) -> None:
        """Remove a proposal and its photo; its boxes stay in the history."""
        self._check(by, case.proposal)
        with self._corrections.storing(case.proposal.name):
            self._check_unchanged(case)
            self._note(case, "refused", by)
            self._inbox.proposals.remove(case.proposal.name)

    def read_photo(self, case: Case) -> bytes:
        """The photo of a proposal.

        Raises:
            ChangedError: it is gone.
        """
        with self._corrections.explaining(case.proposal.name):
            photo = self._inbox.storage.find(case.image)
        if photo is None:
            raise ChangedError("Somebody else has decided about this proposal meanwhile.")
        return photo

    def tell_history(self, photo: str) -> list[str]:
        """A line for all boxes that a photo ever had, the latest first."""
        storage, history = self._inbox.storage, self._inbox.history
        with self._corrections.explaining(photo):
            paths = [each.path for each in storage.entries(history, photo)]
            past = [(PAST[path.suffixes[-2]], read_annotation(storage, path)) for path in paths]
            counting = self._corrections.read_accepted(photo)
            names = self._inbox.proposals.names(f"{photo}-")
            waiting = [("waits", self._corrections.read_proposal(name)) for name in names]
        known = [*past, ("these count", counting), *waiting]
        return sorted((_tell(what, each) for what, each in known if each), reverse=True)

    def _claim(self, name: str) -> str:
        """A name under which a sample waits for good, for somebody looks at it."""
        if not SAMPLES.fullmatch(name):
            return name
        image = self._inbox.proposals.image(name)
        xml = self._inbox.storage.find(self._inbox.proposals.annotation(name))
        if image is None or xml is None:
            return name
        tag = author_tag(Person(SERVICE))
        claimed = f"{name.partition('-')[0]}-{tag}{secrets.token_hex(3)}"
        self._inbox.proposals.store(claimed, image, xml)
        self._inbox.proposals.remove(name)
        return claimed

    def _check(self, by: Person, proposal: Annotation) -> None:
        if not by.may_review:
            raise CorrectionError("Only reviewers decide about proposals.")
        if _is_own(proposal.name, by):
            raise CorrectionError("You proposed this yourself: somebody else has to accept it.")

    def _check_unchanged(self, case: Case) -> None:
        now = self._corrections.read_proposal(case.proposal.name)
        if now is None:
            raise ChangedError("Somebody else has decided about this proposal meanwhile.")
        if now.digest != case.proposal.digest:
            raise ChangedError(
                "Whoever proposed this has changed it since you opened it. Please open it again."
            )

    def _note(self, case: Case, what: str, by: Person) -> None:
        """Write into the history what was proposed."""
        source = {**case.proposal.source, f"{what}_by": by.name, what: tell_time()}
        xml = write_annotation(replace(case.proposal, source=source), case.image.suffix)
        self._inbox.retire(case.proposal.name, what, xml)


def _is_own(name: str, by: Person) -> bool:
    own = name.partition("-")[2].startswith(author_tag(by))
    return own and not by.may_accept_own


def _tell(what: str, annotation: Annotation) -> str:
    source, count = annotation.source, len(annotation.boxes)
    boxes = "1 box" if count == 1 else f"{count} boxes"
    told = [f"{_short(source.get('time', ''))} {annotation.author or 'somebody'}: {boxes}"]
    for did in ("accepted", "refused"):
        if by := source.get(f"{did}_by"):
            told.append(f"{did} by {by} {_short(source.get(did, ''))}")
    told += [f"changed by {by}" for by in [source.get("changed_by")] if by]
    told += [f"answered by {version}" for version in [source.get("version")] if version]
    return "; ".join([*told, what])


def _short(at: str) -> str:
    """A time to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"
