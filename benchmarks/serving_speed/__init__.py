"""The served speed beside the bare pipeline and the peers: `python -m benchmarks.serving_speed`."""
