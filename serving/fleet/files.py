"""`serving gateway-files`: the gateway's configuration for an Envoy that somebody else starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serving.errors import ServingError
from serving.fleet.certificates import read_authorities, read_pair
from serving.fleet.checks import check_values
from serving.fleet.configuration import (
    BOOTSTRAP,
    ROUTES,
    Dns,
    GatewaySettings,
    render_bootstrap,
    render_certificate,
    render_client_ca,
    render_routes,
    write_files,
)
from serving.fleet.keys import read_keys

EVERYWHERE = "0.0.0.0"
METRICS_PORT = 8002


@dataclass(frozen=True)
class FilesSettings(GatewaySettings):
    """Write Envoy's configuration for containers: all servers share a name, and use ports 8000 and
    8001."""

    output: Annotated[Path, tyro.conf.Positional] = Path("gateway")
    """Folder for envoy.yaml, routes.yaml, and the certificates if there are any."""
    servers: str = "triton"
    """The name that stands for all servers; it is looked up every second."""
    replicas: int = 2
    """How many they are as a rule, for the limits of requests under way."""
    folder: Path = Path("/etc/gateway")
    """Where the container sees that folder."""
    private_folder: Path = Path("/tmp")
    """Where Envoy may write in the container."""
    address: str = EVERYWHERE
    """Address to listen on."""
    gateway_metrics_port: int = METRICS_PORT
    """Port of the gateway's own Prometheus metrics."""


def write_gateway_files(settings: FilesSettings) -> None:
    """Write the files. Prints what to do with them.

    Raises:
        PrerequisiteError: a setting or a file makes no sense.
        ServingError: the folder cannot be written to.
    """
    check_values(settings)
    bootstrap = render_bootstrap(
        settings, settings.folder, settings.replicas, Dns(settings.servers), settings.private_folder
    )
    files = {BOOTSTRAP: bootstrap} | _render_access(settings)
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
        write_files(settings.output, files)
    except OSError as error:
        raise ServingError(f"{settings.output} cannot be written to: {error.strerror}") from None
    print(
        f"{settings.output}: {', '.join(files)}; start Envoy with -c {settings.folder}/{BOOTSTRAP}"
    )


def _render_access(settings: FilesSettings) -> dict[str, str]:
    """Routes with the keys, and certificates: an Envoy that runs takes new ones."""
    s = settings
    files = {ROUTES: render_routes(s, read_keys(s.keys_file) if s.keys_file else {})}
    if s.certificate and s.key:
        pair = read_pair(s.certificate, s.key)
        files |= render_certificate(pair.chain, pair.key)
    if s.client_ca:
        files |= render_client_ca(read_authorities(s.client_ca))
    return files
