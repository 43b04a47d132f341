import subprocess
import sys

import pytest

HEAVY = ["cv2", "tyro", "tqdm", "PIL", "onnxruntime", "httpcore2", "tensorflow", "gradio"]
HEAVY += ["training", "serving", "opentelemetry"]


@pytest.mark.slow
def test_the_import_needs_numpy_and_tritonclient_only() -> None:
    program = f"import client, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
