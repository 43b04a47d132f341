"""What a person sees of a run: how long it will take; a bar in a terminal, lines in a log file."""

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts the steps of a run from the `first` that is done already, and tells the time left.

    The first step is left out of all times: it is the one that compiles.
    """

    def __init__(self, total: int, first: int, batch_size: int, visible: bool) -> None:
        self.total, self.step, self.batch_size, self.visible = total, first, batch_size, visible
        self.in_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            initial=first,
            disable=not (visible and self.in_terminal),
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}{postfix}",
        )
        self.began: tuple[int, float] | None = None  # step and time after the first step
        self.looked: tuple[int, float] | None = None  # when the speed was measured last
        self.speed: float | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def advance(self) -> None:
        self.step += 1
        self.bar.update()

    def images_per_second(self) -> float | None:
        """Since the last call or `resume`; None where no step was done since. Call it when the
        device has come to the end of the step."""
        now = time.perf_counter()
        if self.looked and self.step > self.looked[0]:
            steps, seconds = self.step - self.looked[0], now - self.looked[1]
            self.speed = steps * self.batch_size / seconds
        self.looked = (self.step, now)
        self.began = self.began or self.looked
        return self.speed

    def resume(self) -> None:
        """After an evaluation: its time is no step's."""
        self.looked = (self.step, time.perf_counter())

    def time_left(self) -> str:
        """At the mean pace so far, evaluations included; empty before there is one."""
        pace = self._pace()
        return tqdm.format_interval(pace * (self.total - self.step)) + " left" if pace else ""

    def _pace(self) -> float | None:
        """Seconds a step; None before there is one to tell it from."""
        if not self.began or self.step == self.began[0]:
            return None
        return (time.perf_counter() - self.began[1]) / (self.step - self.began[0])

    def show(self, epoch: int, facts: dict[str, str]) -> None:
        """What is known now, into the bar."""
        parts = [f"epoch {epoch}", *(f"{k} {v}" for k, v in facts.items()), self.time_left()]
        self.bar.set_postfix_str(", ".join(filter(None, parts)))

    def tell_estimate(self) -> None:
        """Say how long the run will take, at the pace of its first steps."""
        if self.visible and (pace := self._pace()):
            steps = self.total - self.step
            minutes = tqdm.format_interval(pace * steps)
            tqdm.write(f"{minutes} to go: {steps} steps of {pace:.2g} s, and the evaluations")

    def tell(self, epoch: int, facts: dict[str, str]) -> None:
        """A line for a log file."""
        if self.visible and not self.in_terminal:
            parts = [f"step {self.step}/{self.total}", *(f"{k} {v}" for k, v in facts.items())]
            print(f"epoch {epoch}: " + ", ".join(filter(None, [*parts, self.time_left()])))
            sys.stdout.flush()
