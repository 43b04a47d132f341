"""What `serving drift` exports raises its alert at a webhook, and no other one.

A minute of the rules is two seconds here (benchmarks/monitoring/quicker.py).
"""

import json
from pathlib import Path

from prometheus_client import start_http_server

from benchmarks.monitoring.stack import FIRING, Stack
from tests.conftest import wait_until
from tests.serving.monitoring.test_exporter import Exported, judged

USUAL, DARKER = 172, 150  # mean brightness of photos


def test_other_photos_than_in_validation(tmp_path: Path) -> None:
    drift = Exported()
    drift.verdict = judged(300, USUAL)
    port, thread = start_http_server(0, "127.0.0.1", drift.registry)
    try:
        stack = Stack(tmp_path)
        # The second target stands for a server: without any there would be another alert.
        place = f"127.0.0.1:{port.server_port}"
        jobs = [{"targets": [place], "labels": {"job": job}} for job in ("drift", "triton")]
        (stack.targets / "all.json").write_text(json.dumps(jobs))
        with stack:
            wait_until(lambda: stack.query('ssd_drift_judged{job="drift"} == 1'))
            wait_until(lambda: not stack.query(FIRING))
            begin = len(stack.webhook.told)
            drift.verdict = judged(300, DARKER)
            wait_until(stack.webhook.firing)
            drift.verdict = judged(300, USUAL)
            wait_until(lambda: not stack.webhook.firing())
        told = {(each.receiver, each.alert) for each in stack.webhook.told[begin:]}
        assert told == {("ticket", "SsdDrift")}
    finally:
        port.shutdown()
        port.server_close()
        thread.join()
