"""From what failed to a sentence about it, and another one about what to do."""

from dataclasses import dataclass, field
from typing import Any, Literal

from client.doctor.listener import certificate_fault, listener
from client.errors import DeadlineExceeded, DetectorError, ServerUnavailable
from client.service import Service
from client.transports.addresses import Address
from client.transports.security import Security

Mark = Literal["ok", "warning", "wrong"]

# By what listens at the port: something else than was asked for, or it lets no request through.
LISTENERS = {
    "as wanted": (
        "{address} takes connections, but no request gets through: {reason}",
        "Look at what stands in between (a proxy, a load balancer), and, where the server wants "
        "a certificate from you, name it with --certificate and --key.",
    ),
    "unresolved": (
        "no machine has the name {host}",
        "Check the spelling, or give the IP address. Names of Compose and Kubernetes are known "
        "inside of these only.",
    ),
    "nothing": (
        "nothing listens at {address}",
        "Start a server with `python -m serving up`, or give the address of another one. Triton's "
        "own ports are 8001 for gRPC and 8000 for HTTP.",
    ),
    "unreachable": (
        "{address} does not answer, not even with a refusal",
        "The machine is away, the address is another's, or a firewall is in between.",
    ),
    "silent": (
        "something takes connections at {address} and says nothing",
        "Triton hangs, or it is another program: `ss -ltnp` on that machine tells which.",
    ),
    "grpc": (
        "{address} is a gRPC port{plain}",
        "Give it as grpc://{authority}, or name Triton's HTTP port, which is 8000 by default.",
    ),
    "gateway": (
        "the gateway at {address} answers, but no request gets through: {reason}",
        "Its servers are away, full or not well: ask one of them by its own address, and look into "
        "the gateway's log.",
    ),
    "http": (
        "{address} is Triton's HTTP port{plain}",
        "Give it as http://{authority}, or name the gRPC port, which is 8001 by default.",
    ),
    "metrics": (
        "{address} is the port of Triton's metrics",
        "Its ports for requests are 8001 for gRPC and 8000 for HTTP by default.",
    ),
    "web": (
        "a web server answers at {address}, and it is not Triton",
        "Triton's own ports are 8001 for gRPC and 8000 for HTTP.",
    ),
    "tls": (
        "{address} speaks TLS",
        "Give it as grpcs://{authority} (or https://{authority} for Triton's HTTP).",
    ),
    "other": (
        "what listens at {address} is not Triton",
        "Triton's own ports are 8001 for gRPC and 8000 for HTTP.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing, in a sentence; `remedy` says what to do about it, `facts` are its numbers."""

    mark: Mark
    subject: str
    text: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def ok(subject: str, text: str, **facts: Any) -> Finding:
    """Return that something is as it should be."""
    return Finding("ok", subject, text, facts=facts)


def warning(subject: str, text: str, remedy: str = "", **facts: Any) -> Finding:
    """Return that something works, but should be looked at."""
    return Finding("warning", subject, text, remedy, facts)


def wrong(subject: str, text: str, remedy: str) -> Finding:
    """Return that something does not work."""
    return Finding("wrong", subject, text, remedy)


def unreached(address: Address, security: Security, service: Service, seconds: float) -> Finding:
    """Return why no request gets to the server, after a few attempts of so many seconds."""
    host = address.host.strip("[]")
    kind = listener(host, address.port, seconds)
    encrypted = address.is_encrypted and kind == "tls"
    if encrypted and (fault := certificate_fault(host, address.port, security.context())):
        text = f"the certificate of {address} is not accepted: {fault}"
        remedy = "Name with --ca who signed it, and the server as its certificate does."
        return wrong("connection", text, remedy)
    wanted = "tls" if address.is_encrypted else address.protocol.lower()
    text, remedy = LISTENERS["as wanted" if kind == wanted else kind]
    reason = service.untold[0].partition(": ")[2] if service.untold else "no reason is known"
    known = {
        "address": address,
        "host": host,
        "authority": address.authority,
        "plain": ", and it is not encrypted" if address.is_encrypted else "",
        "reason": reason,
    }
    return wrong("connection", text.format_map(known), remedy.format_map(known))


def failed(error: DetectorError, service: Service) -> Finding:
    """Return what is to be said of a real inference that failed."""
    said = str(error)
    if "tub process" in said:
        health = "says that it is ready" if service.ready else "does not say that it is ready"
        text = f"the server {health}, but the process of a Python model has died: {said}"
        remedy = (
            "Restart the server, or unload and load that model; `serving up` does it by itself."
        )
        return wrong("inference", text, remedy)
    if "maximum queue size" in said:
        text = "the server is full: its queue takes no further request now"
        return wrong("inference", text, "Send less at once, or give it instances or machines.")
    if "wants another key" in said:
        return wrong("inference", said, "Give it with --api-key, by the right --api-key-header.")
    if isinstance(error, ServerUnavailable):
        return wrong("inference", said, "It starts or stops just now, or is full: try again.")
    if isinstance(error, DeadlineExceeded):
        return wrong(
            "inference", said, "It is busy or a step hangs: its log and metrics tell which."
        )
    return wrong("inference", said, "The server's log has more.")
