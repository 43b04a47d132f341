"""Two loops over any transport: how requests follow each other.

`closed_loop` keeps a number of requests under way. `open_loop` sends at given times whatever has
been answered by then, and counts latency from the time a request was meant to go out. So a server,
or a generator, that falls behind cannot hide it.
"""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.load.transport import Answer, Transport, clock

PATIENCE = 120.0  # seconds without any answer until a generator gives up


def closed_loop(
    transport: Transport,
    turn: Iterator[int],
    examine: Callable[[Answer], str],
    concurrency: int,
    seconds: float,
    ramp: float,
) -> dict[str, Any]:
    """Keep `concurrency` requests under way; count answers that come in `seconds` after `ramp`.

    Counting in a window, not from the first request to the last answer, keeps the begin and the
    end, when fewer are under way, out of the throughput. It ends earlier where `turn` does.

    Returns:
        completed, seconds, latencies in ms of the answers counted; how many of all answers came to
        which end; of the whole call the mean latency, CPU seconds of this process and answers.
    """
    transport.wait(0)  # sees which connections the server closed meanwhile
    cpu = time.process_time()
    counted: list[Answer] = []
    all_ms: list[float] = []
    verdicts: Counter[str] = Counter()
    start = clock() + ramp
    end = start + seconds
    under_way = sum(_send_next(transport, turn) for _ in range(concurrency))
    while under_way:
        answers = wait_for_answers(transport, under_way)
        for answer in answers:
            if clock() >= end or not _send_next(transport, turn):
                under_way -= 1
            if start <= answer.ended < end:
                counted.append(answer)
            all_ms.append(1000 * (answer.ended - answer.began))
        verdicts.update(examine(answer) for answer in answers)
    return outcome(counted, verdicts, min(seconds, clock() - start), cpu) | {
        "all_ms": sum(all_ms) / max(1, len(all_ms))
    }


def open_loop(
    transport: Transport,
    turn: Iterator[int],
    examine: Callable[[Answer], str],
    times: Sequence[float],
) -> dict[str, Any]:
    """Send one request at each of the times (seconds from now), answered or not.

    Returns:
        As `closed_loop`, counted are all answers, their latency is from the time a request was
        meant to go out; `failed_ms`: that of the other requests; `lateness_ms`: by how much later
        each did go out; `sent`: how many a second.
    """
    transport.wait(0)
    cpu = time.process_time()
    began = clock()
    answers: list[Answer] = []
    lateness = []
    for offset in times:
        due = began + offset
        while (left := due - clock()) > 0:
            answers += transport.wait(left)
        transport.send(next(turn), due)
        lateness.append(1000 * (clock() - due))
    while len(answers) < len(times):
        answers += wait_for_answers(transport, len(times) - len(answers))
    ended = max((answer.ended for answer in answers), default=began)
    good = [answer for answer in answers if answer.status == "OK"]
    verdicts = Counter(examine(answer) for answer in answers)
    sent = len(times) / times[-1] if times and times[-1] else 0.0
    return outcome(good, verdicts, ended - began, cpu) | {
        "failed_ms": [1000 * (a.ended - a.began) for a in answers if a.status != "OK"],
        "lateness_ms": lateness,
        "sent": sent,
    }


def _send_next(transport: Transport, turn: Iterator[int]) -> bool:
    """Send the photo whose turn it is; False where there is none."""
    number = next(turn, None)
    if number is not None:
        transport.send(number, clock())
    return number is not None


def wait_for_answers(transport: Transport, under_way: int) -> list[Answer]:
    """At least one answer, while requests are under way."""
    deadline = clock() + PATIENCE
    while (left := deadline - clock()) > 0:
        if answers := transport.wait(left):  # none: a part of one came
            return answers
    raise TimeoutError(f"no answer in {PATIENCE:.0f} s, {under_way} requests are under way")


def outcome(
    counted: Sequence[Answer], verdicts: Counter[str], seconds: float, cpu: float
) -> dict[str, Any]:
    return {
        "completed": sum(answer.status == "OK" for answer in counted),
        "seconds": seconds,
        "latencies_ms": [1000 * (a.ended - a.began) for a in counted if a.status == "OK"],
        "verdicts": dict(verdicts),
        "cpu": time.process_time() - cpu,
        "total": sum(verdicts.values()),
    }


def arrivals(rate: float, seconds: float, poisson: bool, seed: int = 0) -> list[float]:
    """When requests are to go out: evenly, or as independent users come (a Poisson process)."""
    if not poisson:
        return [number / rate for number in range(int(rate * seconds))]
    chance = random.Random(seed)
    gaps = iter(lambda: chance.expovariate(rate), None)
    return list(itertools.takewhile(lambda time: time < seconds, itertools.accumulate(gaps)))
