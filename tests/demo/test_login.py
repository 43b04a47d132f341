"""A page that asks who comes: nothing but the login is there before it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, expect

from client import InvalidParameter
from demo.visitors import VisitorOptions
from tests.demo.actions import drop_photo
from tests.demo.program import SAMPLES, Forwarder, Program

USER, PASSWORD = "visitor", "a:long password"
API = "/gradio_api"


@pytest.fixture(scope="module")
def address(forwarder: Forwarder) -> Iterator[str]:
    program = Program("--url", f"127.0.0.1:{forwarder.port}", APP_AUTH=f"{USER}:{PASSWORD}")
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/config"),
        ("GET", f"{API}/info"),
        ("GET", f"{API}/openapi.json"),
        ("GET", f"{API}/file={SAMPLES[0]}"),
        ("GET", f"{API}/queue/data?session_hash=visitor"),
        ("GET", f"{API}/queue/status"),
        ("GET", f"{API}/call/detect/event"),
        ("GET", f"{API}/upload_progress?upload_id=1"),
        ("POST", f"{API}/queue/join"),
        ("POST", f"{API}/call/detect"),
        ("POST", f"{API}/call/v2/detect"),
        ("POST", f"{API}/component_server"),
        ("POST", f"{API}/upload"),
        ("POST", f"{API}/run/detect"),
    ],
)
def test_without_a_login_nothing_is_answered(address: str, method: str, path: str) -> None:
    body = {"data": [], "session_hash": "visitor", "component_id": 1, "fn_name": "detect_frame"}
    with httpx.Client(base_url=address, timeout=30) as visitor:
        answer = visitor.request(method, path, json=body if method == "POST" else None)
        assert answer.status_code in (401, 404)
        assert "photos-result" not in visitor.get("/").text
        login = {"username": USER, "password": PASSWORD + "!"}
        assert visitor.post("/login", data=login).status_code == 400


def test_a_visitor_logs_in_and_sees_boxes(browser: Browser, address: str, smear: Path) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_label("username").fill(USER)
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    expect(page.locator("#photos-result .message")).to_be_visible()
    drop_photo(page, "smear.jpg", smear.read_bytes())
    expect(page.locator(".box").first).to_be_visible()
    page.close()


def test_a_program_logs_in(address: str, smear: Path) -> None:
    client = Client(address, auth=(USER, PASSWORD), verbose=False)
    assert client.predict(handle_file(str(smear)), api_name="/detect")["detections"]
    client.close()


@pytest.mark.parametrize("auth", ["visitor", ":a long password", "visitor:short", " :"])
def test_a_login_that_guards_nothing_is_wrong_usage(auth: str) -> None:
    with pytest.raises(InvalidParameter, match="expected USER:PASSWORD, the password of 12 char"):
        VisitorOptions(auth=auth).login()


def test_the_command_line_counts_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_AUTH", raising=False)
    assert VisitorOptions().login() is None
    monkeypatch.setenv("APP_AUTH", f"{USER}:{PASSWORD}")
    assert VisitorOptions().login() == [(USER, PASSWORD)]
    assert VisitorOptions(auth="other:another password").login() == [("other", "another password")]


@pytest.mark.parametrize(
    ("given", "root", "name"),
    [
        ("", None, None),
        ("/", None, None),
        ("detect/", "/detect", None),
        ("/a/detect", "/a/detect", None),
        ("https://vision.example.com:8443/detect/", "https://vision.example.com:8443/detect",
         "vision.example.com"),
    ],
)  # fmt: skip
def test_a_root_path_is_a_path_or_a_url(given: str, root: str | None, name: str | None) -> None:
    options = VisitorOptions(root_path=given, names=" one, two")
    assert options.root() == root
    expected = {"localhost", socket.gethostname(), "127.0.0.1", "one", "two", name} - {None}
    assert options.host_names("127.0.0.1") == expected
