"""Prometheus, Alertmanager and a receiver of its webhook on free ports, as a context."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.monitoring import quicker
from serving.server.prerequisites import choose_ports
from serving.server.process import LAUNCHER
from serving.server.settings import LOOPBACK

START_SECONDS = 60.0
EXIT_SECONDS = 20.0
FIRING = 'ALERTS{alertstate="firing"}'
INSTALL = "apt-get install --no-install-recommends prometheus prometheus-alertmanager"


class Told(NamedTuple):
    """One alert in one message of Alertmanager's."""

    when: float  # of the monotonic clock
    receiver: str  # page or ticket
    alert: str
    server: str  # empty where it is about all
    status: str  # firing or resolved


class Webhook(ThreadingHTTPServer):
    """Hears what Alertmanager tells."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Hear)
        self.told: list[Told] = []
        self._thread = threading.Thread(target=self.serve_forever)

    def __enter__(self) -> "Webhook":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}"

    def firing(self) -> set[tuple[str, str, str]]:
        """Receiver, alert and server of what was told last to fire."""
        last = {(one.receiver, one.alert, one.server): one.status for one in list(self.told)}
        return {what for what, status in last.items() if status == "firing"}


class _Hear(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for alert in message["alerts"]:
            name, server = alert["labels"]["alertname"], alert["labels"].get("server", "")
            receiver = self.path.removeprefix("/")
            self.server.told.append(Told(time.monotonic(), receiver, name, server, alert["status"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Program:
    """A program of Debian's with a web port, from its start to its end.

    Args:
        name: of the program.
        folder: takes its data and its log.
        options: for its command line.
        port: where it listens.
    """

    def __init__(self, name: str, folder: Path, options: Sequence[str], port: int) -> None:
        found = shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"{name} is not installed: {INSTALL}")
        self.url = f"http://{LOOPBACK}:{port}"
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), found, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        self._wait_until_ready()

    def ask(self, path: str, **parameters: object) -> Any:
        """What its interface answers, as JSON."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(EXIT_SECONDS)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._process.kill()
                    raise RuntimeError(self.log.read_text(errors="replace")) from None
            time.sleep(0.05)


class Stack:
    """All three, with the shipped rules made quicker.

    Args:
        folder: takes configurations and data; targets are looked for in its folder `targets`.
    """

    def __init__(self, folder: Path) -> None:
        self.targets = folder / "targets"
        self.targets.mkdir()
        self.webhook = Webhook()
        self._folder = folder
        self._programs: list[Program] = []

    def __enter__(self) -> "Stack":
        rules = self._folder / "rules"
        rules.mkdir()
        quicker.write_rules(rules)
        ports = choose_ports({"Prometheus": (LOOPBACK, 0), "Alertmanager": (LOOPBACK, 0)})
        self.webhook.__enter__()
        try:
            self._start_alertmanager(ports["Alertmanager"])
            place = f"{LOOPBACK}:{ports['Alertmanager']}"
            self._start_prometheus(
                ports["Prometheus"], quicker.make_prometheus(rules, self.targets, place)
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            program.stop()
        self.webhook.__exit__()

    def query(self, query: str) -> list[dict[str, Any]]:
        """The samples of now."""
        return list(self._prometheus.ask("/api/v1/query", query=query)["data"]["result"])

    def query_range(self, query: str, begin: float, end: float, step: float) -> list[Any]:
        """The series between two times of the wall clock."""
        asked = self._prometheus.ask(
            "/api/v1/query_range", query=query, start=begin, end=end, step=step
        )
        return list(asked["data"]["result"])

    @property
    def url(self) -> str:
        """Prometheus' address."""
        return self._prometheus.url

    @property
    def _prometheus(self) -> Program:
        return self._programs[-1]

    def _start_alertmanager(self, port: int) -> None:
        file = self._folder / "alertmanager.yml"
        file.write_text(quicker.make_alertmanager(self.webhook.url))
        options = [f"--config.file={file}", f"--storage.path={self._folder / 'alertmanager'}"]
        options += [f"--web.listen-address={LOOPBACK}:{port}", "--cluster.listen-address="]
        self._programs.append(Program("prometheus-alertmanager", self._folder, options, port))

    def _start_prometheus(self, port: int, configuration: str) -> None:
        file = self._folder / "prometheus.yml"
        file.write_text(configuration)
        options = [f"--config.file={file}", f"--storage.tsdb.path={self._folder / 'prometheus'}"]
        options += [f"--web.listen-address={LOOPBACK}:{port}", "--log.level=warn"]
        self._programs.append(Program("prometheus", self._folder, options, port))
