"""The client's reader of headers is the server's, and so is the limit of pixels.

Neither has it from the other: the client is installed alone, and so is a model's folder.
"""

from pathlib import Path

from client import image_header, images
from client.local import model_folder
from tests.conftest import PROJECT
from training.data import decoding

REPOSITORY = PROJECT / "model_repository"


def test_it_is_the_servers() -> None:
    servers = REPOSITORY / "preprocess/1/image_header.py"
    ours = Path(image_header.__file__)
    assert ours.read_text() == servers.read_text(), f"cp {servers} {ours}"


def test_one_limit_of_pixels_holds_everywhere() -> None:
    served = int(model_folder.find_models(REPOSITORY).preprocess.parameters["max_pixels"])
    assert served == images.MAX_PIXELS == decoding.MAX_PIXELS
