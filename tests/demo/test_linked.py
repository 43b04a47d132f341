"""A link opens a photo of the folder that the page was started with, and no other file."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from serving.server.server import EmbeddedServer
from tests.demo.program import PROJECT, Program


@pytest.fixture(scope="module")
def address(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("report") / "photos"
    folder.mkdir()
    (folder / "worst-01.jpg").write_bytes((PROJECT / "samples/smear-1.jpg").read_bytes())
    (folder.parent / "secret.jpg").write_bytes((PROJECT / "samples/smear-2.jpg").read_bytes())
    program = Program("--url", server.grpc_url, "--photos", str(folder))
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


def test_the_photo_is_opened_with_its_boxes(page: Page, address: str) -> None:
    page.goto(f"{address}/?photo=worst-01.jpg")
    expect(page.locator("#photos-result")).to_contain_text("worst-01.jpg")
    expect(page.locator("#photos-result")).to_contain_text("RBC")


@pytest.mark.parametrize("name", ["../secret.jpg", "worst-02.jpg", "%2e%2e%2fsecret.jpg", "."])
def test_no_other_file_is(page: Page, address: str, name: str) -> None:
    page.goto(f"{address}/?photo={name}")
    expect(page.get_by_text("has no such photo")).to_be_visible()
    expect(page.locator("#photos-result")).not_to_contain_text("RBC")


def test_a_page_without_a_link_asks_nothing(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#photos-drop")).to_be_visible()
    page.wait_for_timeout(1000)
    expect(page.get_by_text("has no such photo")).to_have_count(0)
