"""Who sits before the page, as far as that is known, and what that person may do with proposals."""

import getpass
import hashlib
from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Person:
    """Somebody who corrects boxes.

    Attributes:
        name: a login; that of this machine's user, on a page that only this machine reaches; else
            one made of the browser's session.
        may_review: sees what is proposed, accepts and refuses it.
        may_accept_own: what this person saves counts at once.
    """

    name: str
    may_review: bool = False
    may_accept_own: bool = False


OWNER = Person("owner", may_review=True, may_accept_own=True)


@dataclass(frozen=True)
class People:
    """Tells who somebody is, and what that person may do.

    Attributes:
        reviewers: logins.
        may_accept_own: reviewers need no second pair of eyes.
        is_private: nobody logs in, and only this machine reaches the page: whoever does owns it.
    """

    reviewers: frozenset[str] = frozenset()
    may_accept_own: bool = False
    is_private: bool = True

    def identify(self, request: gr.Request) -> Person:
        """The person that a request comes from."""
        if request.username:
            may_review = request.username in self.reviewers
            own = may_review and self.may_accept_own
            return Person(request.username, may_review, own)
        if self.is_private and not _is_forwarded(request):
            return Person(_find_user(), may_review=True, may_accept_own=True)
        # No other visitor can know it, or make the same: it is made of a secret of the browser.
        session = hashlib.sha256((request.session_hash or "").encode()).hexdigest()
        return Person(f"visitor {session[:8]}")


def _is_forwarded(request: gr.Request) -> bool:
    """Whether a proxy says that it passes on somebody else's request."""
    names = {name.lower() for name in dict(request.headers)}
    return bool(names & {"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"})


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return OWNER.name
