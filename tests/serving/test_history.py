"""releases.json keeps what it is told, and tells what is wrong with it."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from serving import history
from serving.errors import DamagedFileError, PublishError
from serving.history import Record, Unfinished
from serving.repository import State, open_repository
from serving.store.folder import FolderStore
from tests.serving.test_artifact import flip_a_bit
from tests.serving.tiny_network import network

UNFINISHED = Unfinished(
    State(1), State(1, 2, 0.25), 2, "abc", {"ssd/config.pbtxt": "x", "e_canary/config.pbtxt": None}
)
RECORD = Record(
    {1: {"by": "me", "mAP@0.5": 0.9}},
    highest=1,
    lived=[1],
    unfinished=UNFINISHED,
    since="2026-11-27T07:00:00+00:00",
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty repository."""
    (tmp_path / "models").mkdir()
    return FolderStore(str(tmp_path / "models"))


def test_nothing_written(store: FolderStore) -> None:
    assert history.read_record(store, "ensemble") == Record()


def test_what_is_written_is_read(store: FolderStore) -> None:
    history.write_record(store, "ensemble", RECORD)
    assert history.read_record(store, "ensemble") == RECORD
    assert history.read_record(store, "road") == Record()


def test_numbers_of_a_list_share_a_line(store: FolderStore) -> None:
    """A reference has hundreds."""
    counts = [0, 1.5, -2, 1e-09]
    facts = {"reference": {"counts": counts}, "by": "[\\n1,  2]", "names": ["a", "b"]}
    history.write_record(store, "ensemble", Record({1: facts}, lived=[1, 2]))
    assert history.read_record(store, "ensemble").versions[1] == facts
    lines = [line.strip() for line in store.read(history.FILE).decode().splitlines()]
    assert '"counts": [0,1.5,-2,1e-09]' in lines
    assert '"lived": [1,2],' in lines


def test_tasks_do_not_touch_each_other(store: FolderStore) -> None:
    history.write_record(store, "ensemble", RECORD)
    before = store.read(history.FILE)
    history.write_record(store, "road", Record(highest=1))
    assert history.read_record(store, "ensemble") == RECORD
    history.write_record(store, "road", Record())
    assert store.read(history.FILE) == before
    history.write_record(store, "ensemble", Record())
    assert store.files() == {}


def test_the_shipped_networks_are_the_recorded_ones(project_repository: Path) -> None:
    store = FolderStore(str(project_repository))
    repository, record = open_repository(store, "ensemble"), history.read_record(store, "ensemble")
    assert [*record.versions] == repository.versions() == [1, 2]
    for version in record.versions:
        history.read_published(repository, version, record)


def test_the_shipped_networks_can_be_judged(project_repository: Path) -> None:
    record = history.read_record(FolderStore(str(project_repository)), "ensemble")
    for version in record.versions.values():
        assert version["reference"]["images"] == 87
        scores = version["reference"]["statistics"]["detection_score"]
        assert [*scores] == ["RBC", "WBC", "Platelets"]


def test_a_served_network_that_is_not_the_published_one(
    project_repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(project_repository, tmp_path / "my models")
    store = FolderStore(str(tmp_path / "my models"))
    flip_a_bit(tmp_path / "my models" / "ssd" / "1" / "model.onnx")
    history.check_served_networks(store)  # that one is not served
    flip_a_bit(tmp_path / "my models" / "ssd" / "2" / "model.onnx")
    found = hashlib.sha256(store.read("ssd/2/model.onnx")).hexdigest()
    with pytest.raises(DamagedFileError, match="is not the file that was published") as told:
        history.check_served_networks(store)
    expected = history.read_record(store, "ensemble").versions[2]["sha256"]
    for part in (f"{tmp_path}/my models/ssd/2/model.onnx", expected, found):
        assert part in str(told.value)
    assert f"rollback --repository '{tmp_path}/my models' --model ensemble" in str(told.value)
    history.write_record(store, "ensemble", Record())
    history.check_served_networks(store)  # nothing is known of what was copied in


def test_a_task_that_is_gone_is_not_verified(store: FolderStore) -> None:
    history.write_record(store, "ensemble", RECORD)
    history.check_served_networks(store)


def test_the_order_of_lives() -> None:
    record = Record()
    for version in (1, 2, 3, 3, 2):
        record.becomes_live(version)
    assert record.lived == [1, 2, 3, 2]  # 2 was promoted: the one before is 3
    for version, left in ((3, [1, 2, 3]), (1, [1]), (7, [7])):
        record.becomes_live(version, back=True)
        assert record.lived == left


def test_a_record_of_before_does_not_say_since_when(store: FolderStore) -> None:
    history.write_record(store, "ensemble", RECORD)
    document = json.loads(store.read(history.FILE))
    del document["tasks"]["ensemble"]["since"]
    store.write(history.FILE, json.dumps(document).encode())
    assert history.read_record(store, "ensemble") == replace(RECORD, since="")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", r"releases\.json cannot be read \(Expecting"),
        (b"[]", r"releases\.json cannot be read"),
        (b'{"format": 2, "tasks": {}}', r"\(format 2, expected 1\): restore it, or remove it"),
        (b"\xff", "cannot be read"),
    ],
)
def test_file_that_is_no_record(store: FolderStore, content: bytes, words: str) -> None:
    store.write(history.FILE, content)
    with pytest.raises(PublishError, match=words):
        history.read_record(store, "ensemble")


def test_damaged_entry(store: FolderStore) -> None:
    entry = {"versions": {"one": {}}, "highest": 1, "lived": [], "unfinished": None}
    store.write(history.FILE, json.dumps({"format": 1, "tasks": {"ensemble": entry}}).encode())
    with pytest.raises(PublishError, match=r"releases\.json is damaged \(ValueError"):
        history.read_record(store, "ensemble")


def test_facts_of_a_network() -> None:
    model = network(96, 30, 2)
    for key, value in (("metrics", '{"mAP@0.5": 0.9, "loss": 3}'), ("data_fingerprint", "f00")):
        model.metadata_props.add(key=key, value=value)
    facts = history.describe_network(model.SerializeToString())
    assert facts.pop("bytes") == len(model.SerializeToString())
    assert len(facts.pop("sha256")) == 64
    assert facts == {"mAP@0.5": 0.9, "data_fingerprint": "f00"}


@pytest.mark.parametrize("metrics", ["no JSON", "null", "3"])
def test_facts_of_anything(metrics: str) -> None:
    assert history.describe_network(b"junk")["bytes"] == 4
    model = network(96, 30, 2)
    model.metadata_props.add(key="metrics", value=metrics)
    assert set(history.describe_network(model.SerializeToString())) == {"sha256", "bytes"}
