"""What users have, unchanged, through the gateway."""

import json
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from client import Detector, InvalidImage, Result, ServerError
from client.__main__ import main
from client.canary import Canary
from client.detect.command import run_detect
from client.detect.settings import Detect
from serving.fleet.configuration import Address, Server
from serving.fleet.fleet import Fleet
from serving.fleet.gateway import Gateway
from tests import certificates
from tests.client.examples.conftest import ENVIRONMENT, MAKERS
from tests.conftest import wait_until
from tests.demo.actions import drop_photo
from tests.demo.program import Program

SCHEMES = ("", "http://")
KEY = "a-key-of-the-tests"


# doctor.


def examined(url: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict]:
    main(["doctor", url, "--json", "--requests", "3", "--timeout", "5", *arguments])
    return {it["subject"]: it for it in json.loads(capsys.readouterr().out)["findings"]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_doctor_names_the_gateway(
    fleet: Fleet, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = examined(scheme + fleet.url, capsys)
    assert {it["mark"] for it in findings.values()} <= {"ok", "warning"}
    assert list(findings) == [
        "connection", "gateway", "server", "versions", "inference", "labels", "latency", "canary"
    ]  # fmt: skip
    assert findings["gateway"]["facts"] == {"name": "ssd-gateway"}
    assert findings["latency"]["facts"]["steps"] == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_doctor_tells_a_gateway_from_its_servers(
    fleet: Fleet, scheme: str, smear: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = Address("127.0.0.1", 1)
    fleet.gateway.set_servers([Server(away, away)])
    try:
        wait_until(lambda: not fleet.gateway.healthy())
        findings = wait_until(lambda: wrong_only(examined(scheme + fleet.url, capsys)))
    finally:
        fleet.gateway.set_servers(fleet.addresses())
    for each in SCHEMES:  # Envoy's clusters, and each of its threads, learn it one by one
        with Detector(each + fleet.url, timeout=60, bulk=True) as detector:
            assert detector.detect(smear).detections
    said = f"the gateway at {scheme}{fleet.url} answers, but no request gets through: no server"
    assert findings["connection"]["text"].startswith(said)


@pytest.fixture(scope="module")
def guarded(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """host:port of a gateway that wants TLS and a key, and the authority to trust."""
    folder = tmp_path_factory.mktemp("guarded")
    certificates.write(folder)
    keys = folder / "keys"
    keys.write_text(f"camera {KEY}\n")
    settings = replace(
        fleet.settings,
        port=0,
        gateway_metrics_port=0,
        keys_file=keys,
        certificate=folder / "server.pem",
        key=folder / "server.key",
    )
    with Gateway(settings, fleet.addresses()) as gateway:
        yield gateway.url, folder / "ca.pem"


@pytest.mark.parametrize("scheme", ["grpcs://", "https://"])
def test_doctor_says_that_a_gateway_wants_a_key(
    guarded: tuple[str, Path], scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, ca = guarded
    arguments = ["--ca", str(ca)]
    findings = examined(scheme + url, capsys, *arguments)
    assert findings["gateway"]["facts"] == {"name": "ssd-gateway"}
    assert "no API key that is known here was sent as x-api-key" in findings["inference"]["text"]
    assert "--api-key" in findings["inference"]["remedy"]
    findings = examined(scheme + url, capsys, *arguments, "--api-key", KEY)
    assert {it["mark"] for it in findings.values()} <= {"ok", "warning"}


def wrong_only(findings: dict[str, dict]) -> dict[str, dict]:
    """The findings, where all are wrong: each of Envoy's threads learns of servers by itself."""
    return findings if {it["mark"] for it in findings.values()} == {"wrong"} else {}


# Detectors.


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_photo_that_is_too_large(fleet: Fleet, scheme: str) -> None:
    words = "larger than the server at .* accepts: the request is larger than 64 MiB"
    with (
        Detector(scheme + fleet.url, max_bytes=2**27) as detector,
        pytest.raises(InvalidImage, match=words),
    ):
        detector.detect(bytes(65 * 2**20))


def test_a_path_that_is_not_passed_on_is_no_matter_of_keys(fleet: Fleet, smear: Path) -> None:
    with (
        Detector(f"http://{fleet.url}/cells") as detector,
        pytest.raises(ServerError, match=r"not let through at .*: the gateway passes inference"),
    ):
        detector.detect(smear)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_single_photos_pass_bulk_work_and_none_is_lost(
    fleet: Fleet, scheme: str, smear: Path
) -> None:
    """More at once than the gateway takes: it refuses bulk work, which comes again as told."""
    passed: list[Result] = []
    url, end = scheme + fleet.url, threading.Event()

    def send_single_photos() -> None:
        with Detector(url, retries=0) as detector:
            while not end.is_set():
                passed.append(detector.detect(smear))

    with (
        Detector(url, retries=0, bulk=True) as detector,
        ThreadPoolExecutor() as pool,
    ):
        single = pool.submit(send_single_photos)
        try:
            found = list(detector.detect_many([smear] * 200, concurrency=60))
        finally:
            end.set()
        single.result()
    assert len(found) == 200
    assert all(result.detections for result in [*found, *passed])
    assert len(passed) > 5


def test_the_command_detects_more_at_once_than_passes(
    fleet: Fleet, smear: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(200):
        shutil.copy(smear, photos / f"{number}.jpg")
    found = tmp_path / "found.jsonl"
    assert run_detect(Detect((photos,), fleet.url, output=found, concurrency=60)) == 0
    entries = [json.loads(line) for line in found.read_text().splitlines()]
    assert sum("detections" in entry for entry in entries) == 200


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_canarys_keys_stay_on_their_side(fleet: Fleet, scheme: str, smear: Path) -> None:
    canary = Canary("ensemble", "1", 0.5)
    keys = [f"camera {number}" for number in range(10)] * 3
    with Detector(scheme + fleet.url) as detector:
        models = [detector.detect(smear, canary_key=key).model for key in keys]
    assert models == [canary.name if canary.takes(key) else canary.model for key in keys]
    assert len(set(models)) == 2


# Other languages, and the page.


@pytest.mark.parametrize("example", MAKERS)
def test_an_example_finds_what_python_finds(
    example: str, fleet: Fleet, smear: Path, tmp_path: Path
) -> None:
    command = [*MAKERS[example](tmp_path), smear]
    command += [fleet.url if example == "node, gRPC" else f"http://{fleet.url}"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    labels = Counter(json.loads(line)["label"] for line in done.stdout.splitlines())
    with Detector(fleet.url) as detector:
        assert labels == detector.detect(smear).counts()


def test_the_page_shows_boxes_and_who_stands_in_front(
    browser: Browser, fleet: Fleet, smear: Path
) -> None:
    program = Program("--url", fleet.url)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(program.address)
        drop_photo(page, "smear.jpg", smear.read_bytes())
        expect(page.locator(".box").first).to_be_visible()
        shown = page.locator("#photos-result")
        expect(shown).to_contain_text(f"behind ssd-gateway at {fleet.url}")
        expect(shown.locator("ol li").first).to_have_text("preprocess 1")
    assert program.stop() == 0
    assert "Traceback" not in program.printed
