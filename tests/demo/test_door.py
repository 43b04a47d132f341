"""What is let in to the page, and what is refused in a sentence, whoever asks."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.camera import AT_ONCE, FRAME_LIMIT, WAITING
from demo.door import BODY_LIMIT
from tests.conftest import wait_until
from tests.demo.program import SAMPLES, Forwarder, Program

API = "/gradio_api"


@pytest.fixture(scope="module")
def visitor(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as visitor:
        yield visitor


def camera_call(visitor: httpx.Client, frame: bytes) -> dict[str, Any]:
    """The JSON that the page's script sends for a frame."""
    components = visitor.get("/config").json()["components"]
    camera = next(one for one in components if one["props"].get("elem_id") == "camera-result")
    data = [base64.b64encode(frame).decode(), 0.45]
    called = {"component_id": camera["id"], "fn_name": "detect_frame", "session_hash": "visitor"}
    return called | {"data": data}


def event_of(visitor: httpx.Client, target: str) -> int:
    """Gradio's number of what happens at this event of a script."""
    found = [
        each["id"]
        for each in visitor.get("/config").json()["dependencies"]
        if any(event == target for _, event in each["targets"])
    ]
    assert len(found) == 1
    return int(found[0])


def outcome(visitor: httpx.Client, session: str) -> Any:
    """What Gradio's queue answers this session."""
    path = f"{API}/queue/data"
    with visitor.stream("GET", path, params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            told = json.loads(line.removeprefix("data: ")) if line else {}
            if told.get("msg") == "process_completed":
                return told["output"]
    raise AssertionError("no outcome")


# ---------------------------------------------------------------- whose names


ROUTES = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", f"{API}/info"),
    ("GET", f"{API}/file={SAMPLES[0]}"),
    ("GET", f"{API}/queue/data?session_hash=visitor"),
    ("GET", f"{API}/heartbeat/visitor"),
    ("POST", f"{API}/queue/join"),
    ("POST", f"{API}/upload"),
    ("POST", f"{API}/component_server"),
    ("POST", f"{API}/call/detect"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "[", ""])
def test_it_answers_to_no_other_name(
    visitor: httpx.Client, method: str, path: str, host: str
) -> None:
    answer = visitor.request(method, path, headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert answer.status_code == 400 or "--names" in answer.text


def test_a_websocket_is_refused_under_every_name(address: str) -> None:
    upgrade = (
        f"GET {API}/queue/join HTTP/1.1\r\nHost: {{}}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    url = httpx.URL(address)
    for host in ("attacker.example", url.netloc.decode()):
        with socket.create_connection((url.host, url.port or 80)) as raw:
            raw.sendall(upgrade.format(host).encode())
            assert raw.recv(100).split()[1] in (b"403", b"404", b"421")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "192.168.1.9", "LOCALHOST:1"])
def test_numbers_and_localhost_need_not_be_named(visitor: httpx.Client, host: str) -> None:
    assert visitor.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://192.168.1.9"])
def test_another_page_can_send_it_nothing(visitor: httpx.Client, origin: str) -> None:
    call = camera_call(visitor, SAMPLES[0].read_bytes())
    answer = visitor.post(f"{API}/component_server", json=call, headers={"Origin": origin})
    assert answer.status_code == 403
    own = {"Origin": f"http://{visitor.base_url.host}:{visitor.base_url.port}"}
    answer = visitor.post(f"{API}/component_server", json=call, headers=own)
    assert answer.json()["detections"]


# ---------------------------------------------------------------- which requests


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{API}/process_recording"),
        ("POST", f"{API}/vibe-edit"),
        ("POST", f"{API}/run/detect"),
        ("POST", f"{API}/stream/visitor"),
        ("GET", f"{API}/deep_link?session_hash=visitor"),
        ("GET", f"{API}/file=https://attacker.example/"),
        ("GET", f"{API}/proxy=https://attacker.hf.space/"),
        ("GET", "/monitoring"),
        ("PUT", f"{API}/upload"),
    ],
)
def test_what_the_page_does_not_use_is_not_there(
    visitor: httpx.Client, method: str, path: str
) -> None:
    assert visitor.request(method, path).text == "There is nothing here."


@pytest.mark.parametrize("path", ["component_server", "queue/join", "call/detect"])
def test_no_request_is_larger_than_it_need_be(visitor: httpx.Client, path: str) -> None:
    def parts() -> Iterator[bytes]:
        yield b"{}"

    large = visitor.post(f"{API}/{path}", content=b" " * (BODY_LIMIT + 1))
    assert (large.status_code, large.text) == (413, "This is more than the page takes.")
    assert visitor.post(f"{API}/{path}", content=parts()).status_code == 411


def test_the_largest_frame_that_is_taken_comes_through(visitor: httpx.Client) -> None:
    call = camera_call(visitor, b"\0" * (FRAME_LIMIT * 3 // 4))
    assert len(call["data"][0]) == FRAME_LIMIT
    answer = visitor.post(f"{API}/component_server", json=call).json()
    assert answer["error"]["text"].startswith("Not an image")


def test_the_camera_is_all_that_goes_past_the_queue(visitor: httpx.Client) -> None:
    components = visitor.get("/config").json()["components"]
    functions = [name for each in components for name in each["props"].get("server_fns", [])]
    assert functions == ["detect_frame"]


def test_nothing_is_drawn_for_who_was_not_answered(visitor: httpx.Client) -> None:
    asked = {"photo": 0, "detections": []}
    event = {"fn_index": event_of(visitor, "draw"), "data": [None], "event_data": asked}
    joined = visitor.post(f"{API}/queue/join", json=event | {"session_hash": "stranger"})
    assert joined.status_code == 200
    [drawn] = outcome(visitor, "stranger")["data"]
    assert set(drawn) == {"message"}
    assert drawn["message"]["headline"] == "This photo is no longer here"


# ---------------------------------------------------------------- how many


def test_of_200_camera_calls_at_once_some_are_refused_and_the_page_answers(
    visitor: httpx.Client, forwarder: Forwarder
) -> None:
    call = camera_call(visitor, SAMPLES[0].read_bytes())

    async def all_at_once() -> tuple[list[dict[str, Any]], int]:
        limits = httpx.Limits(max_connections=None)
        options: dict[str, Any] = {"base_url": visitor.base_url, "timeout": 60, "limits": limits}
        async with httpx.AsyncClient(**options) as crowd:
            sent = [
                asyncio.ensure_future(crowd.post(f"{API}/component_server", json=call))
                for _ in range(200)
            ]
            await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            page = await crowd.get("/")  # while most of them are under way, or wait
            waiting = sum(not each.done() for each in sent)
            answers = await asyncio.gather(*sent)
        assert page.status_code == 200
        return [answer.json() for answer in answers], waiting

    forwarder.delay = 1.0  # seconds a frame: nothing ends before all have come
    try:
        answers, waiting = asyncio.run(all_at_once())
    finally:
        forwarder.delay = 0.0
    answered = [answer for answer in answers if "error" not in answer]
    refused = {answer["error"]["headline"] for answer in answers if "error" in answer}
    assert waiting > 0
    assert AT_ONCE + WAITING <= len(answered) < 200
    assert all(answer["detections"] for answer in answered)
    assert refused == {"Too many cameras at once"}
    assert camera_call(visitor, b"")  # and afterwards


# ---------------------------------------------------------------- uploads


@pytest.fixture(scope="module")
def small(forwarder: Forwarder) -> Iterator[httpx.Client]:
    """A page that keeps 3 MB."""
    program = Program("--url", f"127.0.0.1:{forwarder.port}", "--uploads-limit", "3")
    with httpx.Client(base_url=program.address, timeout=30) as visitor:
        yield visitor
    assert program.stop() == 0
    assert "Traceback" not in program.printed


def uploaded(visitor: httpx.Client, name: str, megabytes: float) -> httpx.Response:
    content = os.urandom(int(megabytes * 2**20))
    return visitor.post(f"{API}/upload", files={"files": (name, content)})


def age(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1e9, 1e9))


def test_uploads_have_a_limit_together_and_the_oldest_makes_way(small: httpx.Client) -> None:
    first = Path(uploaded(small, "first.jpg", 1.2).json()[0])
    second = Path(uploaded(small, "second.jpg", 1.2).json()[0])
    refused = uploaded(small, "third.jpg", 1.2)
    assert refused.status_code == 413
    assert refused.text.startswith("This page keeps 3 MB of photos and videos at a time")
    age(first.parent)
    third = Path(uploaded(small, "third.jpg", 1.2).json()[0])
    assert [path.exists() for path in (first, second, third)] == [False, True, True]
    for path in (second, third):
        age(path.parent)


def test_one_upload_that_is_too_large_costs_nobody_theirs(small: httpx.Client) -> None:
    kept = Path(uploaded(small, "kept.jpg", 1).json()[0])
    age(kept.parent)
    assert uploaded(small, "large.jpg", 4).status_code == 413
    assert kept.exists()


def test_an_upload_holds_files_and_nothing_else(small: httpx.Client) -> None:
    field = {"files": (None, b"a" * 1000)}  # which Gradio would keep in memory, whatever its size
    answer = small.post(f"{API}/upload", files=field)
    assert (answer.status_code, answer.text) == (400, "An upload holds files and nothing else.")


def test_an_upload_that_breaks_off_leaves_nothing(small: httpx.Client) -> None:
    folder = Path(uploaded(small, "kept.jpg", 0.1).json()[0]).parents[1]
    before = set(folder.iterdir())
    url = small.base_url
    head = (
        f"POST {API}/upload HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    )
    with socket.create_connection((url.host, url.port or 80)) as raw:
        raw.sendall(head.encode() + b"a" * 100_000)
        wait_until(lambda: bool(set(folder.iterdir()) - before))
    wait_until(lambda: not set(folder.iterdir()) - before)
