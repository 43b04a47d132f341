"""The gateway's configuration, from deploy/gateway's templates: Envoy's bootstrap, routes, servers.

Envoy reads the bootstrap once. Routes and servers are files of their own that it takes anew when
they are exchanged by a rename, without dropping a request.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import jinja2
import tyro

from client.tensors import packed
from client.transports.security_options import Pem
from serving.control import CHECK, sample_photo
from serving.otlp import TRACES, parse_receiver
from serving.repository import DEFAULT_MODEL
from serving.server.settings import LOOPBACK

TEMPLATES = Path(__file__).parents[2] / "deploy" / "gateway"
BOOTSTRAP, ROUTES, ENDPOINTS = "envoy.yaml", "routes.yaml", "endpoints.yaml"
SECRET, CERTIFICATE, CLIENT_CA = "secret.yaml", "certificate", "client_ca"
MEGABYTE = 2**20
# Seconds. A check waits behind the requests that a server has, which are not to count as its death.
CHECK_TIMEOUT = 5.0
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway runs."""

    address: str = LOOPBACK
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 8001
    """Port of both gRPC and HTTP; 0 chooses a free one."""
    gateway_metrics_port: int = 0
    """Port of the gateway's own Prometheus metrics, on 127.0.0.1; 0 chooses a free one."""
    model: str = DEFAULT_MODEL
    """The ensemble that takes the inferences by which servers are checked."""
    interactive_requests: int = 16
    """Requests under way at once for each server. What is more is refused at once, for it could
    only wait."""
    bulk_requests: int = 4
    """As many of them that say that they are bulk work, beside the others: twice a server's
    cores keep it busy."""
    request_mb: int = 64
    """Largest request, MiB."""
    request_seconds: float = 30.0
    """How long a request may take, its upload and its answer each, in seconds."""
    client_requests_per_second: int = 0
    """Requests a second of each API key, without keys of each address; 0: as many as there is
    room for."""
    connections: int = 1000
    """Connections open at once. What is more is closed at once."""
    memory_mb: int = 1024
    """Memory of the gateway, MiB. When it is nearly full, requests are refused."""
    check_seconds: float = 1.0
    """Time between two real inferences that check a server, in seconds."""
    keys_file: File = None
    """File of the API keys that are let in, a line each: the owner's name and the key. This file
    and the next three may be exchanged while the gateway runs."""
    certificate: Pem = None
    """The certificate with which it speaks TLS, with its chain."""
    key: Pem = None
    """The private key of that certificate."""
    client_ca: Pem = None
    """Authorities: only clients with a certificate of theirs are let in (mTLS)."""
    access_log: str = ""
    """File that takes a line of JSON for each request; - is the standard output."""
    otlp_endpoint: Annotated[str, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = ""
    """Receiver of traces, such as http://127.0.0.1:4318; without it there are none."""
    trace_share: Annotated[float | None, tyro.conf.arg(metavar="SHARE", help_behavior_hint="")] = (
        None
    )
    """Share of all requests that are traced, 0 to 1, whatever clients ask for. Without it those are
    traced whose clients ask for it."""


@dataclass(frozen=True)
class Address:
    """Where one protocol of a server is spoken."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Server:
    """One server behind the gateway."""

    grpc: Address
    http: Address


@dataclass(frozen=True)
class Dns:
    """A name that stands for all servers, each of which uses these ports."""

    name: str
    grpc_port: int = 8001
    http_port: int = 8000


def render_bootstrap(
    settings: GatewaySettings,
    folder: Path,
    servers: int,
    dns: Dns | None = None,
    private_folder: Path | None = None,
) -> str:
    """Envoy's own file.

    Args:
        settings: how the gateway runs, with the ports that were chosen.
        folder: where Envoy finds routes and servers.
        servers: how many there are, for the limit of requests under way.
        dns: a name that stands for all servers, instead of a file of them.
        private_folder: where Envoy makes its admin socket; None: in `folder`, too.
    """
    values = {
        "folder": str(folder),
        "private_folder": str(private_folder or folder),
        "dns": dns,
        "metrics_address": settings.address if dns else LOOPBACK,
        "metrics_port": settings.gateway_metrics_port,
        "interactive": settings.interactive_requests * servers,
        "bulk": settings.bulk_requests * servers,
        "max_request_bytes": settings.request_mb * MEGABYTE,
        "probe": _make_probe(),
        "check_timeout": CHECK_TIMEOUT,
        "receiver": parse_receiver(settings.otlp_endpoint) if settings.otlp_endpoint else None,
        "traces_path": TRACES,
    }
    return _render(BOOTSTRAP, **(asdict(settings) | values))


def render_routes(settings: GatewaySettings, keys: Mapping[str, str] = MappingProxyType({})) -> str:
    """What is let through, and whom.

    Args:
        settings: how the gateway runs.
        keys: the owner's name of each API key; none: everybody.
    """
    maximum = settings.request_mb * MEGABYTE
    return _render(ROUTES, **asdict(settings), keys=keys, max_request_bytes=maximum)


def render_certificate(chain: str, key: str) -> dict[str, str]:
    """What proves who the gateway is, PEM, as a file for Envoy."""
    return {f"{CERTIFICATE}.yaml": _render(SECRET, secret=CERTIFICATE, chain=chain, key=key)}


def render_client_ca(authorities: str) -> dict[str, str]:
    """Whose clients are let in, PEM, as a file for Envoy."""
    return {f"{CLIENT_CA}.yaml": _render(SECRET, secret=CLIENT_CA, chain=authorities, key="")}


def render_endpoints(servers: Sequence[Server]) -> dict[str, str]:
    """The servers, as the file of each cluster."""
    addresses = {"triton_grpc": [s.grpc for s in servers], "triton_http": [s.http for s in servers]}
    return {
        f"{cluster}.yaml": _render(
            ENDPOINTS, cluster=cluster, servers=zip(found, addresses["triton_http"], strict=True)
        )
        for cluster, found in addresses.items()
    }


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """By a rename, which is what Envoy watches for."""
    for name, text in files.items():
        new = folder / f".{name}"
        new.write_text(text, encoding="utf-8")
        new.rename(folder / name)


def _render(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.j2").render(values)


@dataclass(frozen=True)
class Probe:
    """An inference as a health check sends it: one small photo by HTTP."""

    body: str  # hexadecimal
    head: int  # bytes of JSON before the tensor


def _make_probe() -> Probe:
    photo = packed(sample_photo())
    size = {"binary_data_size": len(photo)}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": size}
    wanted = [{"name": "num_detections", "parameters": {"binary_data": False}}]
    request = {"parameters": CHECK, "inputs": [tensor], "outputs": wanted}
    head = json.dumps(request).encode()
    return Probe((head + photo).hex(), len(head))
