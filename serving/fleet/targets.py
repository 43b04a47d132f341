"""What Prometheus shall ask for metrics: a file of targets, as its file_sd_configs reads them.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import json
from collections.abc import Mapping, Sequence


def format_targets(servers: Mapping[str, Sequence[str]], gateway: str) -> str:
    """The file's text: a group for each target, with its job and the server's number from 1 on.

    Args:
        servers: the addresses of each server's metrics, by job.
        gateway: the address of the gateway's.
    """
    groups = [
        {"targets": [address], "labels": {"job": job, "server": str(number)}}
        for job, addresses in servers.items()
        for number, address in enumerate(addresses, 1)
    ]
    groups.append({"targets": [gateway], "labels": {"job": "gateway"}})
    return json.dumps(groups, indent=2) + "\n"
