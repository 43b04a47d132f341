"""Networks take turns in ONNX Runtime on one thread: how long each takes for an image."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.network import onnx_network

WARM_UP = 10  # rounds


def race_networks(networks: Mapping[str, Path | bytes], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU an image, of each network in each round.

    Taking turns, because a machine that is slower for a minute is so for all, and in another order
    each time, because whoever follows a large network finds its caches cold.
    """
    sessions = {k: onnx_network.open_session(network, threads=1) for k, network in networks.items()}
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (1, *session.get_inputs()[0].shape[1:]), np.uint8)
        for name, session in sessions.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in tqdm(range(-WARM_UP, rounds), desc="timing", disable=None, leave=False):
        for name in rng.permutation(list(sessions)):
            began = time.thread_time()  # of this thread, whoever else has the core in between
            sessions[name].run(None, {"images": images[name]})
            if turn >= 0:
                taken[name].append(1e3 * (time.thread_time() - began))
    return taken
