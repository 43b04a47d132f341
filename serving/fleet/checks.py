"""What must hold before a gateway and its servers are started. Each failure is one sentence."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from serving.errors import PrerequisiteError
from serving.fleet.certificates import read_authorities, read_pair
from serving.fleet.configuration import GatewaySettings, Server
from serving.fleet.envoy import find_envoy
from serving.fleet.keys import read_keys
from serving.otlp import parse_receiver
from serving.server.prerequisites import MODEL_NAME, choose_ports
from serving.server.settings import LOOPBACK

DAY = 86400.0
# option: the least and the most
RANGES = {
    "replicas": (1, 100),
    "interactive_requests": (1, 100_000),
    "bulk_requests": (1, 100_000),
    "request_mb": (1, 1024),
    "request_seconds": (0.1, DAY),
    "client_requests_per_second": (0, 1_000_000),
    "connections": (1, 1_000_000),
    "memory_mb": (64, 1_000_000),
    "check_seconds": (0.1, DAY),
    "start_seconds": (0.0, DAY),
    "drain_seconds": (0.0, DAY),
    "trace_share": (0.0, 1.0),
}


def check_settings(settings: GatewaySettings) -> dict[str, int]:
    """Check all that can be known before anything is started.

    Returns:
        The gateway's free ports, by option name.

    Raises:
        PrerequisiteError: the first thing that makes no sense, or is missing.
    """
    find_envoy()
    check_values(settings)
    if settings.access_log not in ("", "-"):
        _check_log(Path(settings.access_log))
    return _find_ports(settings)


def check_values(settings: GatewaySettings) -> None:
    """Check what does not depend on this machine.

    Raises:
        PrerequisiteError: the first thing that makes no sense.
    """
    _check_ranges(settings)
    if not MODEL_NAME.fullmatch(settings.model):
        raise PrerequisiteError(f"--model {settings.model!r} cannot be the name of a model")
    if not _is_ip(settings.address):
        raise PrerequisiteError(
            "--address must be an IP address of this machine, or 0.0.0.0 for all of them, found "
            f"{settings.address!r}"
        )
    _check_files(settings)
    if settings.otlp_endpoint:
        parse_receiver(settings.otlp_endpoint)
    elif settings.trace_share is not None:
        raise PrerequisiteError("--trace-share is of use only with --otlp-endpoint")


def _find_ports(settings: GatewaySettings) -> dict[str, int]:
    places = {
        "--port": (settings.address, settings.port),
        "--gateway-metrics-port": (LOOPBACK, settings.gateway_metrics_port),
    }
    return choose_ports(places)


def check_servers(servers: Iterable[Server]) -> None:
    """Envoy looks up no names in a list.

    Raises:
        PrerequisiteError: one has a name instead of an IP address.
    """
    for address in (each for server in servers for each in (server.grpc, server.http)):
        if not _is_ip(address.host):
            raise PrerequisiteError(f"servers are listed by their IP address, found {address}")


def _check_ranges(settings: GatewaySettings) -> None:
    for name, (least, most) in RANGES.items():
        found = getattr(settings, name, None)
        if found is not None and not least <= found <= most:  # nor is nan
            option = "--" + name.replace("_", "-")
            raise PrerequisiteError(f"{option} must be from {least} to {most:.0f}, found {found}")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_files(settings: GatewaySettings) -> None:
    if (settings.certificate is None) != (settings.key is None):
        raise PrerequisiteError("--certificate and --key are of use only together")
    if settings.client_ca and not settings.certificate:
        raise PrerequisiteError("--client-ca is of use only with --certificate and --key")
    if settings.certificate and settings.key:
        read_pair(settings.certificate, settings.key)
    if settings.client_ca:
        read_authorities(settings.client_ca)
    if settings.keys_file:
        read_keys(settings.keys_file)


def _check_log(file: Path) -> None:
    try:
        file.open("ab").close()
    except OSError as error:
        raise PrerequisiteError(
            f"--access-log {file} cannot be written: {error.strerror}"
        ) from None
