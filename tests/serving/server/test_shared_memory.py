"""Files of dead servers go, files of living ones and of strangers stay."""

import signal
import subprocess
import sys
from pathlib import Path

from serving.server import shared_memory
from serving.server.shared_memory import Region

CLAIM_AND_DIE = """
import os, signal, sys
from pathlib import Path
from serving.server.shared_memory import Region
region = Region(Path(sys.argv[1]))
region.claim()
(Path(sys.argv[1]) / f"{region.prefix}1234").touch()
print(region.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_there(tmp_path: Path) -> None:
    assert shared_memory.remove_leftovers(tmp_path) == []


def test_release_leaves_nothing(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.claim()
    (tmp_path / f"{region.prefix}1234").touch()
    folder = region.folder
    region.release()
    assert list(tmp_path.iterdir()) == []
    assert not folder.exists()
    region.release()  # a second time does nothing


def test_clear_removes_only_what_is_named(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.claim()
    gone, stays = tmp_path / f"{region.prefix}1", tmp_path / f"{region.prefix}2"
    gone.touch()
    stays.touch()
    region.clear([gone.name])
    assert (gone.exists(), stays.exists()) == (False, True)
    region.release()


def test_leftovers_of_a_killed_process_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    living = Region(tmp_path)
    living.claim()
    (tmp_path / "somebody-elses").touch()
    command = [sys.executable, "-c", CLAIM_AND_DIE, str(tmp_path)]
    died = subprocess.run(command, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    folder = Path(died.stdout.strip())
    assert folder.is_dir()
    assert len(shared_memory.remove_leftovers(tmp_path)) == 1
    assert not folder.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["somebody-elses", f"{living.prefix}lock"]
    living.release()
