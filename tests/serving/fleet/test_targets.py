"""The file that tells Prometheus whom to ask."""

import json

from serving.fleet.targets import format_targets


def test_a_group_for_each() -> None:
    servers = {"triton": ["127.0.0.1:1", "127.0.0.1:2"], "supervisor": ["127.0.0.1:3"]}
    assert json.loads(format_targets(servers, "127.0.0.1:4")) == [
        {"targets": ["127.0.0.1:1"], "labels": {"job": "triton", "server": "1"}},
        {"targets": ["127.0.0.1:2"], "labels": {"job": "triton", "server": "2"}},
        {"targets": ["127.0.0.1:3"], "labels": {"job": "supervisor", "server": "1"}},
        {"targets": ["127.0.0.1:4"], "labels": {"job": "gateway"}},
    ]
