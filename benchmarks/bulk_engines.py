"""The detections of `bulk` on other engines, without its files: `python bulk_engines.py ray ...`.

Arguments: pool, dask, ray or ray_data; the folder of photos; the repository; photos of a part.
"""

import os
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else it tells its makers of each start
WORKERS = len(os.sched_getaffinity(0))
HERE: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": "ERROR",
}


OPENED: list[Any] = []  # this process's detector, of one thread


def detect_part(repository: str, paths: list[str]) -> int:
    """Detect in photos; returns how many there were."""
    from client import LocalDetector

    if not OPENED:
        OPENED.append(LocalDetector(repository, threads=1))
    return sum(1 for _ in OPENED[0].detect_many(paths, concurrency=4))


class Batches:
    """What Ray Data's actors do with a batch."""

    def __init__(self, repository: str) -> None:
        self.repository = repository

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        return {"done": [detect_part(self.repository, list(batch["path"]))]}


def _run_pool(parts: list[list[str]], repository: str) -> Iterator[int]:
    """Processes of the standard library, which replaces none that is lost."""
    with get_context("spawn").Pool(WORKERS) as pool:
        yield from pool.starmap(detect_part, [(repository, part) for part in parts])


def _run_dask(parts: list[list[str]], repository: str) -> Iterator[int]:
    """Dask's tasks."""
    from distributed import Client, LocalCluster

    local = {"host": "127.0.0.1", "dashboard_address": None, "threads_per_worker": 1}
    with LocalCluster(n_workers=WORKERS, **local) as cluster, Client(cluster) as client:
        futures = client.map(detect_part, [repository] * len(parts), parts, pure=False)
        yield from client.gather(futures)


def _run_ray(parts: list[list[str]], repository: str) -> Iterator[int]:
    """Ray's tasks."""
    import ray

    ray.init(num_cpus=WORKERS, **HERE)
    detect = ray.remote(detect_part)
    yield from ray.get([detect.remote(repository, part) for part in parts])


def _run_ray_data(parts: list[list[str]], repository: str) -> Iterator[int]:
    """Ray Data: a data set mapped by actors."""
    import ray

    ray.init(num_cpus=WORKERS, **HERE)
    rows = ray.data.from_items([{"path": path} for part in parts for path in part])
    done = rows.map_batches(
        Batches,
        fn_constructor_args=[repository],
        batch_size=len(parts[0]),
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
    )
    for batch in done.iter_batches():
        yield from map(int, batch["done"])


def main(engine: str, photos: str, repository: str, size: str) -> int:
    """Run one. Exit code 1: not all photos were done."""
    paths = sorted(map(str, Path(photos).iterdir()))
    parts = [paths[at : at + int(size)] for at in range(0, len(paths), int(size))]
    engines = {"pool": _run_pool, "dask": _run_dask, "ray": _run_ray, "ray_data": _run_ray_data}
    return int(sum(engines[engine](parts, repository)) != len(paths))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
