"""The options of `app.py` for what is learned from visitors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro

from client import InvalidParameter
from client.inbox.samples import Samples
from demo.corrections.editor import correction_editor
from demo.corrections.folder import Corrections
from demo.corrections.people import People
from demo.corrections.sampling import keep_unsure
from demo.page import Learning


@dataclass(frozen=True)
class CorrectionOptions:
    """For pages on which people correct boxes."""

    corrections: Annotated[str | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder, or bucket such as s3://bucket/inbox, for photos whose boxes people corrected on the
    page, as Pascal VOC to train with; none given: nothing can be corrected or is stored."""
    corrections_limit: int = 1000
    """Megabytes that this may take."""
    reviewers: Annotated[str, tyro.conf.arg(metavar="USER,...", help_behavior_hint="")] = ""
    """Who of those that log in accepts what others propose. A page that only this machine reaches,
    without a login, needs none: what is saved there counts at once."""
    approve_own: bool = False
    """What a reviewer saves counts at once, without a second pair of eyes."""
    unsure: int = 0
    """Keep so many of the photos that the model is least sure of, to be corrected; 0: none."""

    def check(self, logins: Sequence[str]) -> None:
        """Look for settings that make no sense together.

        Args:
            logins: the names that visitors log in with.

        Raises:
            InvalidParameter: a reviewer cannot log in, or there is nothing to review.
        """
        if not self.corrections and (self.reviewers or self.approve_own or self.unsure):
            raise InvalidParameter("--reviewers, --approve-own and --unsure go with --corrections")
        if self.unsure < 0:
            raise InvalidParameter(f"--unsure {self.unsure}: expected 0 or more")
        strangers = sorted(self._reviewers() - set(logins))
        if strangers:
            raise InvalidParameter(
                f"--reviewers {', '.join(strangers)}: no such login; --auth or APP_AUTH names "
                f"{', '.join(logins) or 'none'}"
            )
        if self.approve_own and not self.reviewers:
            raise InvalidParameter("--approve-own is for --reviewers: name them")

    def open(self, labels: Sequence[str], is_private: bool) -> Learning | None:
        """What puts the editor into the page, and keeps photos; None where no inbox is given.

        Args:
            labels: the served classes, as far as they are known.
            is_private: nobody logs in, and only this machine reaches the page.

        Raises:
            CorrectionError: the inbox cannot be used.
            InvalidParameter: its address is malformed.
        """
        if self.corrections is None:
            return None
        kept = Corrections(self.corrections, labels, self.corrections_limit)
        people = People(self._reviewers(), self.approve_own, is_private)
        samples = Samples(kept.inbox, self.unsure)
        keep = partial(keep_unsure, samples) if self.unsure else None
        return Learning(partial(correction_editor, kept, people=people), keep)

    def _reviewers(self) -> frozenset[str]:
        names = (name.strip() for name in self.reviewers.split(","))
        return frozenset(filter(None, names))
