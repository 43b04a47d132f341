"""The command `doctor`: what is right and wrong with a server, as a list for people or as JSON."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Annotated

import tyro

from client.doctor.checkup import Checkup
from client.doctor.diagnosis import Finding
from client.errors import InvalidParameter
from client.transports.addresses import parse_addresses
from client.transports.security_options import SecurityOptions

WIDTH = 100  # columns of the list


@dataclass(frozen=True)
class Doctor:
    """Examine a running server: what works, what does not, and what to do about it.

    Sends some generated photos. Exit code: 0 nothing is wrong (there may be warnings), 1 something
    is, 2 wrong usage.
    """

    url: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URL")] = "127.0.0.1:8001"
    """The server: HOST:PORT or grpc://, grpcs://, http://, https://."""

    model: str = "ensemble"
    """Name of the ensemble on the server."""

    requests: int = 30
    """Inferences that measure the latency, within 10 seconds."""

    timeout: float = 10.0
    """Seconds that one request may take."""

    metrics_url: str = ""
    """Where `serving up` tells its metrics, such as http://127.0.0.1:8003/metrics: what it knows of
    the server is told, too."""

    json: bool = False
    """Write one JSON document instead of the list."""

    security: Annotated[SecurityOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=SecurityOptions
    )


def run_doctor(settings: Doctor) -> int:
    """Examine, report, and return the exit code.

    Raises:
        InvalidParameter: a setting that makes no sense.
    """
    address, *others = parse_addresses(settings.url)
    if others:
        raise InvalidParameter("doctor examines one server at a time: give one address")
    if settings.requests < 1:
        raise InvalidParameter(f"requests must be 1 or more, but got {settings.requests}")
    checkup = Checkup(
        address,
        settings.security.read(),
        model=settings.model,
        requests=settings.requests,
        timeout=settings.timeout,
        metrics_url=settings.metrics_url,
    )
    report = _document if settings.json else _list
    return 1 if report(settings.url, checkup.findings()) else 0


def _list(_: str, findings: Iterable[Finding]) -> int:
    """Write each finding as it comes; return how many things are wrong."""
    marks: Counter[str] = Counter()
    for finding in findings:
        marks[finding.mark] += 1
        print(_lines(finding), flush=True)
    warnings = f", warnings: {marks['warning']}" if marks["warning"] else ""
    print(f"\nwrong: {marks['wrong'] or 'nothing'}{warnings}")
    return marks["wrong"]


def _lines(finding: Finding) -> str:
    """Return a finding's text and remedy, indented behind its mark."""
    head = f"{finding.mark:<9}{finding.subject:<12}"
    texts = (finding.text, finding.remedy)
    lines = [line for text in texts for line in textwrap.wrap(text, WIDTH - len(head))]
    return head + f"\n{' ' * len(head)}".join(lines)


def _document(url: str, findings: Iterable[Finding]) -> int:
    """Write all findings at the end; return how many things are wrong."""
    found = list(findings)
    wrong = sum(finding.mark == "wrong" for finding in found)
    document = {"url": url, "fine": not wrong, "findings": [asdict(finding) for finding in found]}
    print(json.dumps(document, indent=2))
    return wrong
