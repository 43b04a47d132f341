"""How the embedded server runs: the options of `serving up`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServerSettings:
    """How the embedded server runs."""

    repository: str | Path
    """Folder of models, or an address like s3://bucket/prefix or s3://host:port/bucket/prefix."""
    http_port: int = 0
    """Port of Triton's HTTP protocol; 0 chooses a free one."""
    grpc_port: int = 0
    """Port of Triton's gRPC protocol; 0 chooses a free one."""
    metrics_port: int = 0
    """Port of Triton's own Prometheus metrics; 0 chooses a free one."""
    supervisor_port: int | None = None
    """Port of the Prometheus metrics that Triton does not know: probes, restarts, releases; 0
    chooses a free one."""
    http_address: str = LOOPBACK
    """Address to listen on for HTTP; 0.0.0.0 lets other machines in."""
    grpc_address: str = LOOPBACK
    """Address to listen on for gRPC; 0.0.0.0 lets other machines in."""
    metrics_address: str = LOOPBACK
    """Address to listen on for both metrics; 0.0.0.0 lets other machines in."""
    watch: bool = False
    """Look for changes in the repository (every second, in S3 every 5) and load what changed."""
    model_config_name: str = ""
    """Variant of the configurations: a model that has configs/NAME.pbtxt runs with that."""
    admin_key: str = ""
    """Key for loading and unloading models; empty: TRITON_ADMIN_KEY, else what the file
    TRITON_ADMIN_KEY_FILE holds, else a generated one."""
    start_seconds: float = 120.0
    """How long the start may take, in seconds."""
    drain_seconds: float = 30.0
    """How long requests in flight may take at the end, in seconds."""
    probe_seconds: float = 5.0
    """Time between two real inferences that check the server, in seconds."""
    otlp_endpoint: Annotated[str, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = ""
    """Receiver of traces, such as http://127.0.0.1:4318; without it there are none."""
    verbose: bool = False
    """Show tritonserver's own log instead of writing it to a file."""
    arguments: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Further arguments for tritonserver, as they are."""
