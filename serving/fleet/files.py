"""`serving gateway-files`: the gateway's configuration for an Envoy that somebody else starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serving.errors import ServingError
from serving.fleet.configuration import (
    BOOTSTRAP,
    ROUTES,
    Dns,
    GatewaySettings,
    render_bootstrap,
    render_routes,
)

EVERYWHERE = "0.0.0.0"
METRICS_PORT = 8002


@dataclass(frozen=True)
class FilesSettings(GatewaySettings):
    """Write Envoy's configuration for containers: all servers share a name, and use ports 8000 and
    8001."""

    output: Annotated[Path, tyro.conf.Positional] = Path("gateway")
    """Folder for envoy.yaml and routes.yaml."""
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
    """Write both files. Prints what to do with them.

    Raises:
        ServingError: the folder cannot be written to.
    """
    bootstrap = render_bootstrap(
        settings, settings.folder, settings.replicas, Dns(settings.servers), settings.private_folder
    )
    files = {BOOTSTRAP: bootstrap, ROUTES: render_routes(settings)}
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (settings.output / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ServingError(f"{settings.output} cannot be written to: {error.strerror}") from None
    print(
        f"{settings.output}: {', '.join(files)}; start Envoy with -c {settings.folder}/{BOOTSTRAP}"
    )
