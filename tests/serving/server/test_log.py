"""The lines that matter, from logs that tritonserver 2.51 wrote."""

from pathlib import Path

from serving.server.log import read_failed, read_failure

MODEL = r"""I1120 14:07:31.100000 17 server.cc:1 "starting"
W1120 14:07:31.100000 17 pinned_memory_manager.cc:273] "CUDA driver version is insufficient"
E1120 14:07:31.353252 17 server.cc:241] "CudaDriverHelper has not been initialized."
E1120 14:07:33.353252 17 a.cc:6] "failed to load 'p' version 1: no nix\n\nAt:\n  /m.py(1): <m>\n"
I1120 14:07:33.353252 17 model_lifecycle.cc:777] "failed to load 'pre'"
+-------+
| Model |
error: creating server: Internal - failed to load all models
"""


def test_no_log(tmp_path: Path) -> None:
    assert read_failure(tmp_path / "none.log") == "it left no log"


def test_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    assert read_failure(tmp_path / "log") == "it printed nothing"


def test_failed_model_is_named_with_its_reason_and_place(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(MODEL)
    assert read_failure(tmp_path / "log") == ("model p: no nix (/m.py(1): <m>)")


def test_refused_option(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("/x/bin/tritonserver: unrecognized option '--no=1'\nUsage: ...\n")
    assert read_failure(tmp_path / "log") == "unrecognized option '--no=1'"


def test_errors_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        'E1120 14:07:33.353252 17 main.cc:1] "failed to bind"\nSignal (15) received.\n'
    )
    assert read_failure(tmp_path / "log") == "failed to bind"


def test_last_words_when_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\nSegmentation fault\n")
    assert read_failure(tmp_path / "log") == "Segmentation fault"


def test_what_an_earlier_server_said_is_not_this_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(MODEL)
    begin = log.stat().st_size
    with log.open("a") as file:
        file.write('E1120 14:07:33.353252 17 main.cc:1] "failed to bind"\n')
    assert read_failure(log, begin) == "failed to bind"
    assert read_failed(log, begin) == []
    assert len(read_failed(log)) == 1
