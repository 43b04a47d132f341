"""The command, on a real Prometheus: its words and its exit code."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.__main__ import main
from serving.history import Record, write_record
from serving.monitoring.prometheus import Prometheus
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.monitoring.conftest import Answering
from tests.serving.monitoring.past import Past, draw_photos, reference_of, remembering

Drift = Callable[..., int]


@pytest.fixture
def drift(prometheus: str, tiny_repository: Path) -> Drift:
    """drift(namespace, *options, reference, since) -> exit code."""

    def run(
        namespace: str, *options: str, reference: Any = REFERENCE, since: str = "", url: str = ""
    ) -> int:
        facts: dict[str, Any] = {"reference": reference} if reference else {}
        record = Record({1: facts}, highest=1, lived=[1], since=since)
        write_record(open_store(str(tiny_repository)), "ensemble", record)
        where = ["--prometheus", url or prometheus, "--repository", str(tiny_repository)]
        return main(["drift", *where, "--selector", f'namespace="{namespace}"', *options])

    return run


REFERENCE = reference_of(draw_photos(0, 58))


def test_the_same_photos(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("same") == 0
    assert capsys.readouterr().out.startswith("no drift: 39")  # of 400, the last ones just now


def test_dark_photos(drift: Drift, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("dark", "--picture", str(tmp_path / "moved.png")) == 3
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("  moved   brightness: median 171 (8 of 10 in ")
    assert " -> 12" in told[1]
    assert "  moved" not in told[2]
    with Image.open(tmp_path / "moved.png") as picture:
        assert picture.width < 500  # one panel


def test_json(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("dark", "--json", "--window", "30m") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["version"], found["window_seconds"]) == ("drift", 1, 1800)
    assert [each["statistic"] for each in found["statistics"] if each["moved"]] == [
        "image_brightness"
    ]


@pytest.mark.parametrize(
    ("namespace", "changes", "words"),
    [
        ("few", {}, r"not enough to tell: (38|39|40) images, 140 needed"),
        ("same", {"reference": None}, "version 1 has no reference: its artifact is of before"),
        ("stranger", {}, "the reference never saw the class Basophil, which is counted live"),
        (
            "same",
            {"reference": REFERENCE | {"score_threshold": 0.3}},
            "detections cannot be compared: the reference was measured with score_threshold 0.3,",
        ),
        (
            "same",
            {"reference": REFERENCE | {"score_thresholds": [0.4, 0.5, 0.5]}},
            r"measured with .*, score_thresholds \[0.4, 0.5, 0.5\], the configuration says score_t",
        ),
        ("torn", {}, "some servers serve version 1 and some 2"),
        ("steady", {}, "version 2 has no reference: it was copied in by hand"),
    ],
)
def test_what_cannot_be_told_is_never_all_clear(
    namespace: str,
    changes: Mapping[str, Any],
    words: str,
    drift: Drift,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert drift(namespace, **changes) == 4
    told = capsys.readouterr().out
    assert told.startswith("cannot tell: ")
    assert re.search(rf"^  untold  .*{words}", told, re.M)


def test_no_picture_where_nothing_was_judged(drift: Drift, tmp_path: Path) -> None:
    assert drift("few", "--picture", str(tmp_path / "moved.png")) == 4
    assert not (tmp_path / "moved.png").exists()


def test_a_canary(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    """Its detections are counted with the live version's: images alone can be judged."""
    assert drift("photos beside a canary") == 0
    told = capsys.readouterr().out
    assert "  note    version 3 is a canary, and its detections are counted among those of" in told
    assert "  same    5 statistics" in told


def test_a_reference_that_was_trained_on(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    """A network is surer of what it was trained on than of anything that comes."""
    assert drift("same", "--json", reference=REFERENCE | {"trained_on": 50}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"] == [
        "version 1 was trained on 50 of the 58 images of its reference, which gives better scores "
        "than live: scores are not judged"
    ]
    assert "detection_score" not in {each["statistic"] for each in found["statistics"]}


def test_after_a_release(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    """What was sent before it was another version's."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    assert drift("dark", since=now) == 4
    told = capsys.readouterr().out
    assert "  untold  not enough to tell: 0 images, 140 needed" in told
    assert "  note    the window begins at the last change of what is served" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--window", "soon"], "--window must be such as 30m, 1h or 7d, found 'soon'"),
        (["--selector", "namespace="], "refuses"),
        (["--model", "absent"], "has no model absent"),
        (["--window", "soon", "--metrics-port", "0"], "--window must be such as"),
        (["--metrics-port", "0", "--json"], "--json and --picture are of use only without"),
    ],
)
def test_errors(
    options: list[str], words: str, drift: Drift, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drift("same", *options) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_prometheus_is_away(drift: Drift, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("same", url="http://127.0.0.1:1") == 1
    assert capsys.readouterr().err.startswith("error: Prometheus at http://127.0.0.1:1 does not")


def test_prometheus_scrapes_nothing(
    drift: Drift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with remembering(tmp_path / "empty", Past()) as url:
        assert drift("same", url=url) == 4
    assert f"  untold  Prometheus at {url} scrapes nothing: start it" in capsys.readouterr().out


@pytest.mark.parametrize("up", [True, False])
def test_prometheus_scrapes_no_server(
    up: bool, answering: Answering, drift: Drift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = answering(200, "nv_inference_count 3\n").removeprefix("http://")
    with remembering(tmp_path / "lonely", Past(), target if up else "127.0.0.1:1") as url:
        server = Prometheus(url)
        wait_until(lambda: server.query("up"))
        assert drift("same", url=url) == 4
    words = "has no ssd_image_brightness_count{" if up else "reaches none of its 1 targets"
    assert f"  untold  Prometheus at {url} {words}" in capsys.readouterr().out
