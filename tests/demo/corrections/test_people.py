"""Who sits before the page, and who of them decides."""

import getpass
from typing import Any

import gradio as gr
import pytest

from client import InvalidParameter
from demo.corrections.options import CorrectionOptions
from demo.corrections.people import People, Person
from demo.visitors import VisitorOptions

PAIR = "ann:a long password\nben:another password"


def request(user: str | None = None, session: str = "s", **headers: str) -> gr.Request:
    return gr.Request(username=user, session_hash=session, headers=headers)


def test_who_reaches_a_private_page_owns_it() -> None:
    owner = Person(getpass.getuser(), may_review=True, may_accept_own=True)
    assert People().identify(request()) == owner


@pytest.mark.parametrize("header", ["X-Forwarded-For", "forwarded", "x-real-ip"])
def test_whom_a_proxy_lets_in_owns_nothing(header: str) -> None:
    person = People().identify(request(**{header: "192.0.2.1"}))
    assert person == Person(person.name)


def test_visitors_without_a_login_are_told_apart_by_their_browsers() -> None:
    people = People(is_private=False)
    one, same, other = (people.identify(request(session=each)) for each in ("a", "a", "b"))
    assert one == same != other
    assert one == Person(one.name)
    assert "visitor " in one.name


def test_of_those_that_log_in_only_reviewers_decide() -> None:
    people = People(frozenset({"ann"}), is_private=False)
    assert people.identify(request("ann")) == Person("ann", may_review=True)
    assert people.identify(request("ben")) == Person("ben")
    trusting = People(frozenset({"ann"}), may_accept_own=True, is_private=False)
    assert trusting.identify(request("ann")) == Person("ann", may_review=True, may_accept_own=True)
    assert trusting.identify(request("ben")) == Person("ben")


@pytest.mark.parametrize(
    ("host", "options", "is_private"),
    [
        ("127.0.0.1", {}, True),
        ("localhost", {}, True),
        ("::1", {}, True),
        ("0.0.0.0", {}, False),
        ("192.168.1.9", {}, False),
        ("vision.example.com", {}, False),
        ("127.0.0.1", {"names": "vision.example.com"}, False),
        ("127.0.0.1", {"root_path": "/detect"}, False),
        ("127.0.0.1", {"auth": PAIR}, False),
    ],
)
def test_only_a_page_of_this_machine_is_private(
    host: str, options: dict[str, Any], is_private: bool
) -> None:
    assert VisitorOptions(**options).is_private(host) == is_private


def test_several_people_log_in() -> None:
    pairs = [("ann", "a long password"), ("ben", "another password")]
    assert VisitorOptions(auth=PAIR).login() == pairs
    for wrong in (f"{PAIR}\nann:a third password", f"{PAIR}\nshort:short", f"{PAIR}\n\n"):
        with pytest.raises(InvalidParameter, match="--auth or APP_AUTH"):
            VisitorOptions(auth=wrong).login()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reviewers": "ann"}, "go with --corrections"),
        ({"unsure": 5}, "go with --corrections"),
        ({"corrections": "c", "reviewers": "ann,carl"}, "--reviewers carl: no such login; --auth"),
        ({"corrections": "c", "approve_own": True}, "is for --reviewers"),
        ({"corrections": "c", "unsure": -1}, "--unsure -1: expected 0 or more"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        CorrectionOptions(**options).check(["ann", "ben"])
    CorrectionOptions().check([])
