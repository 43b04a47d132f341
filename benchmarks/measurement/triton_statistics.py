"""Triton's own counts of each model: how long requests wait, and what each part of them takes."""

from collections.abc import Mapping, Sequence

import tritonclient.grpc as grpc_client

PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def read_statistics(address: str) -> dict[str, dict[str, float]]:
    """Triton's counts so far: requests, executions and nanoseconds of each part, by model."""
    client = grpc_client.InferenceServerClient(address)
    found = client.get_inference_statistics().model_stats
    client.close()
    return {
        each.name: {
            "requests": each.inference_stats.success.count,
            "executions": each.execution_count,
            "total": each.inference_stats.success.ns,
            **{part: getattr(each.inference_stats, part).ns for part in PARTS},
        }
        for each in found
    }


def difference(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The counts between two readings, by model."""
    return {
        model: {key: now[key] - before[model][key] for key in now} for model, now in after.items()
    }


def a_request(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One model's microseconds a request, and its mean batch, from the counts of some turns."""
    total = {key: sum(each[key] for each in counts) for key in counts[0]}
    requests, executions = max(1.0, total["requests"]), max(1.0, total["executions"])
    parts = {key: total[key] / requests / 1000 for key in (*PARTS, "total")}
    return parts | {"batch": total["requests"] / executions}
