"""Who works: processes on this machine, or the workers of a cluster of Dask.

A worker that is lost, by a kill or with its machine, is replaced, and its part begun anew.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Security, as_completed

from bulk.errors import BulkError, UsageError
from bulk.listing import Part
from bulk.task import Done, Task, detect_part
from client.errors import DetectorError
from serving.errors import ServingError, first_line

CONNECT_SECONDS = 10
WORKER_SECONDS = 60  # until a cluster has a first worker
# Of a worker. Dask's own has freed memory given back at once, which costs an eighth of the pace.
ENVIRONMENT = {"OMP_NUM_THREADS": 1}
AHEAD = 2  # parts for each worker that are handed out: the next one waits where it is worked on


@contextmanager
def open_workers(cluster: str | None, workers: int) -> Iterator[Client]:
    """Connect to a cluster's scheduler, or start processes here, which end with this one.

    Args:
        cluster: the scheduler's address; None: this machine.
        workers: how many processes to start.

    Raises:
        BulkError: nothing listens at the address, or it has no worker.
        UsageError: it is no address.
    """
    # What goes wrong is told once, in a sentence.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if cluster is None:
        with _start_here(workers) as here, Client(here) as client:
            yield client
    else:
        with _connect(cluster) as client:
            yield client


def detect_parts(
    client: Client, task: Task, parts: Iterable[Part]
) -> Iterator[tuple[Part, Done | str]]:
    """Yield each part as it ends, and what became of it or why it is not done.

    Parts are taken as workers are free for them: their number is not limited.
    """
    parts, ended = iter(parts), as_completed(loop=client.loop)
    under_way: dict[Future, Part] = {}
    while True:
        free = AHEAD * max(1, sum(client.nthreads().values())) - len(under_way)
        for part in islice(parts, max(0, free)):
            future = client.submit(_detect, task, part, pure=False)
            under_way[future] = part
            ended.add(future)
        if not under_way:
            return
        future = next(ended)
        yield under_way.pop(future), _outcome(future)


def _detect(task: Task, part: Part) -> Done | str:
    """Make a part, or return why not: an error would bring along what does not travel."""
    try:
        return detect_part(task, part)
    except (DetectorError, ServingError) as error:
        return str(error)


def _outcome(future: Future) -> Done | str:
    error: Any = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KilledWorker):
        return "workers ended, one after the other, while they were at it"
    cause = error.__cause__ or error  # Dask wraps what it cannot load
    return (
        f"{type(cause).__name__}: {first_line(cause)} (a worker needs what is installed here, in "
        "the same versions)"
    )


def _start_here(workers: int) -> LocalCluster:
    """Start processes that answer only to who has this run's key, which is kept in memory."""
    with dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            dashboard_address=None,
            memory_limit=None,  # a photo may need much for a moment
            silence_logs=logging.CRITICAL,
        )


def _connect(address: str) -> Client:
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError:
        raise UsageError(
            f"--cluster {address}: expected the address of a Dask scheduler, such as "
            "tcp://host:8786"
        ) from None
    except OSError:
        raise BulkError(
            f"no Dask scheduler answers at {address} within {CONNECT_SECONDS} s: start one with "
            "`dask scheduler`, and workers with `dask worker`"
        ) from None
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        client.close()
        raise BulkError(
            f"the scheduler at {address} has had no worker for {WORKER_SECONDS} s: start some with "
            f"`dask worker {address}`"
        ) from None
    return client
