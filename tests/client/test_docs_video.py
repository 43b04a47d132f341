"""The Python of docs/video.md and docs/large-images.md runs, but for the server's address."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from serving.server.server import EmbeddedServer
from tests.client.clips import read_clip, save_clip
from tests.conftest import PROJECT

DOCS = PROJECT / "docs"


@pytest.mark.parametrize("page", ["video.md", "large-images.md"])
def test_the_pages_program_runs(
    page: str,
    server: EmbeddedServer,
    smear: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = cv2.imread(str(smear))
    save_clip(tmp_path / "clip.mp4", [picture] * 3)
    cv2.imwrite(str(tmp_path / "slide.jpg"), np.tile(picture, (2, 2, 1)))
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.M)
    assert "127.0.0.1:8001" in program
    exec(compile(program.replace("127.0.0.1:8001", server.grpc_url), page, "exec"), {})
    assert "'RBC'" in capsys.readouterr().out
    assert page != "video.md" or len(read_clip(Path("drawn.webm"))) == 3
