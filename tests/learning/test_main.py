import subprocess
import sys

from tests.conftest import PROJECT


def test_what_is_not_installed_is_named_with_the_line_that_installs_it() -> None:
    program = "import sys; sys.modules['doit'] = None; from learning.__main__ import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}sys.exit(main(['run', '--help']))"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: learning needs packages of its own (")
    assert done.stderr.endswith(
        "): .venv/bin/pip install -c constraints.txt -e '.[app,learning]'\n"
    )
