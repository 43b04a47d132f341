"""The page's pod: its command starts the page that was asked for, with secrets from files."""

import os
import subprocess
from pathlib import Path

import pytest
import tyro

from app import AppSettings
from demo.video import VIDEO_LIMIT
from tests.deploy.kubernetes.conftest import Render, container, find, pod

SECRETS = {
    "gateway__filesSecret": "files",
    "page__loginSecret": "login",
    "page__apiKeySecret": "key",
}


def execute(one: dict[str, list[str]], folder: Path) -> tuple[AppSettings, str]:
    """Run its command with a `python` that tells its arguments.

    Returns:
        What the page makes of them, and the login in its environment.
    """
    (folder / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$APP_AUTH" "$@"\n')
    (folder / "python").chmod(0o755)
    for name, content in (("login", "ann:twelve letters\n"), ("key", "an-api-key\n")):
        (folder / name).write_text(content)
    words = [*one["command"], *one["args"]]
    words = [word.replace("/etc/ssd/login/", f"{folder}/") for word in words]
    words = [word.replace("/etc/ssd/api-key/", f"{folder}/") for word in words]
    variables = {"PATH": f"{folder}{os.pathsep}{os.defpath}"}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
    login, program, *arguments = done.stdout.splitlines()
    assert program == "app.py"
    return tyro.cli(AppSettings, args=arguments), login


def test_it_asks_the_services_address(render: Render, tmp_path: Path) -> None:
    objects = render(["cpu.yaml"])
    settings, login = execute(container(objects, "ssd-page"), tmp_path)
    [port] = [p["port"] for p in find(objects, "Service", "ssd")["spec"]["ports"]]
    assert settings.url == f"ssd:{port}"
    assert login == settings.security.api_key == ""
    [own] = find(objects, "Service", "ssd-page")["spec"]["ports"]
    [listens] = container(objects, "ssd-page")["ports"]
    assert own["targetPort"] == listens["name"]
    assert (settings.host, settings.port) == ("0.0.0.0", listens["containerPort"])


def test_login_and_key_come_from_files(render: Render, tmp_path: Path) -> None:
    one = container(render(["cpu.yaml"], **SECRETS), "ssd-page")
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert (mounts["login"], mounts["api-key"]) == ("/etc/ssd/login", "/etc/ssd/api-key")
    settings, login = execute(one, tmp_path)
    assert login == "ann:twelve letters"
    assert settings.security.api_key == "an-api-key"


def test_a_login_that_cannot_be_read_opens_nothing(render: Render, tmp_path: Path) -> None:
    one = container(render(["cpu.yaml"], **SECRETS), "ssd-page")
    (tmp_path / "python").write_text("#!/bin/sh\necho served\n")
    (tmp_path / "python").chmod(0o755)
    variables = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"}
    command = [*one["command"], *one["args"]]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("names", ["", "detect.example,other.example"])
def test_browsers_come_under_these_names(render: Render, tmp_path: Path, names: str) -> None:
    objects = render(["cpu.yaml"], page__names=names.replace(",", "\\,"))
    settings, _ = execute(container(objects, "ssd-page"), tmp_path)
    known = settings.visitors.host_names(settings.host)
    assert known >= {"ssd-page", "ssd-page.default.svc", *filter(None, names.split(","))}


def test_it_may_keep_less_than_its_disk_holds(render: Render, tmp_path: Path) -> None:
    objects = render(["cpu.yaml"])
    settings, _ = execute(container(objects, "ssd-page"), tmp_path)
    [room] = [v["emptyDir"]["sizeLimit"] for v in pod(objects, "ssd-page")["volumes"]]
    limit = settings.visitors.uploads_limit
    assert limit + 2 * VIDEO_LIMIT < int(room.removesuffix("Mi"))  # two are being written
