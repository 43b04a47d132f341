"""What two runs find on the same photos, measured anew: a run folder holds no detections."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from training import run_folder
from training.data import records
from training.data.problems import DataError
from training.errors import TrainingError
from training.evaluation import measure, score
from training.evaluation.findings import Findings
from training.evaluation.outcomes import Outcome
from training.evaluation.spread import Difference, Interval, measure_difference


@dataclass(frozen=True)
class Change:
    """A photo in which one run makes more mistakes than the other, each at its own threshold."""

    image_id: str
    before: Outcome
    after: Outcome

    @property
    def more(self) -> int:
        """How many mistakes more the second makes."""
        return self.after.mistakes - self.before.mistakes


@dataclass(frozen=True)
class Measured:
    """What each run found on the same photos.

    difference: None where the photos are too few, or were trained on, so that it tells nothing.
    """

    before: Findings
    after: Findings
    difference: Difference | None

    @cached_property
    def changes(self) -> list[Change]:
        """The photos with more or fewer mistakes than before, the most changed first."""
        pairs = (
            Change(name, outcome, self.after.outcomes[name])
            for name, outcome in self.before.outcomes.items()
        )
        return sorted((x for x in pairs if x.more), key=lambda x: (-abs(x.more), x.image_id))

    @property
    def names(self) -> tuple[str, str]:
        """What to call both figures: none is a mAP where either run was trained on some photos."""
        return max((x.metrics for x in (self.before, self.after)), key=_seen).names

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Of all classes together and of each: its name, and both figures with their change."""
        one, other = self.before.metrics, self.after.metrics
        told = self.difference
        rows: list[tuple[str, ...]] = [
            ("all classes", *_figures(*_pair(one, other, None), told.figures if told else None))
        ]
        for label in one.per_class:
            intervals = told.per_class[label] if told else None
            rows.append((label, *_figures(*_pair(one, other, label), intervals)))
        return rows

    @property
    def notes(self) -> list[str]:
        """What to know of these rows, a sentence a line."""
        if self.before.metrics.trained_on or self.after.metrics.trained_on:
            return ["Some were trained on, so that the difference tells nothing of other photos."]
        if not self.difference:
            return [
                f"{len(self.before.truth)} photos are too few to tell a difference from chance."
            ]
        return [
            "*: more than chance. In brackets 95% of the differences on as many other photos "
            "(bootstrap over photos, the same ones for both).",
            "What another seed of the training would have given is not in it.",
        ]

    @property
    def changes_text(self) -> str:
        """How many photos have more mistakes, and how many fewer."""
        fewer, more = (sum(1 for x in self.changes if x.more * sign > 0) for sign in (-1, 1))
        thresholds = f"{self.before.threshold:.2f} -> {self.after.threshold:.2f}"
        return (
            f"Mistakes, missed and false, at the score threshold with the best F1 ({thresholds}): "
            f"fewer in {fewer} photos, more in {more}, as many in "
            f"{len(self.before.truth) - fewer - more}"
        )


def _seen(metrics: score.Metrics) -> int:
    return metrics.trained_on or 0


def _pair(
    one: score.Metrics, other: score.Metrics, label: str | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    if label is None:
        return (one.map50, one.map), (other.map50, other.map)
    return one.per_class[label], other.per_class[label]


def _figures(
    were: tuple[float, float],
    are: tuple[float, float],
    intervals: tuple[Interval, Interval] | None,
) -> tuple[str, str]:
    map50, map_ = (
        f"{was:.3f} -> {now:.3f} ({now - was:+.3f}" + _tell_interval(intervals and intervals[k])
        for k, (was, now) in enumerate(zip(were, are, strict=True))
    )
    return map50, map_


def _tell_interval(interval: Interval | None) -> str:
    if not interval:
        return ")"
    return f"; {interval.low:+.3f} to {interval.high:+.3f}){'' if interval.is_chance else ' *'}"


def measure_runs(runs: tuple[Path, Path], val: records.Manifest) -> Measured:
    """Let both networks detect on a split.

    Raises:
        TrainingError: there is no object in it, or a run has no checkpoint or knows other labels.
    """
    truth = measure.read_truth(val)
    if not score.is_measurable(truth):
        raise TrainingError(f"{val.directory}: no object in {val.split}, so nothing to measure")
    before, after = (_find(run, val, truth) for run in runs)
    difference = None
    if not before.metrics.trained_on and not after.metrics.trained_on:
        one, other = (list(each.detected.values()) for each in (before, after))
        difference = measure_difference(truth, one, other, val.labels)
    return Measured(before, after, difference)


def _find(run: Path, val: records.Manifest, truth: list[score.Truth]) -> Findings:
    detected, _ = measure.detect_with_run(run, val)
    metrics = score.score_detections(truth, detected, val.labels)
    metrics = measure.label_metrics(metrics, val, run_folder.trained_on(run))
    return Findings.of(val, truth, detected, metrics)


def find_val(runs: tuple[Path, Path]) -> records.Manifest | None:
    """The val split that both runs were measured on; None where its records are not there.

    Raises:
        TrainingError: they were measured on different ones.
    """
    splits = [_read_val(run) for run in runs]
    known = {_fingerprint(run, val) for run, val in zip(runs, splits, strict=True)} - {None}
    if len(known) > 1:
        raise TrainingError(
            f"{runs[0]} and {runs[1]} were measured on different val photos, or other boxes in "
            "them, so their figures tell nothing of each other: --records FOLDER measures both on "
            "the val of one of them"
        )
    return next(filter(None, splits), None)


def _read_val(run: Path) -> records.Manifest | None:
    folder = run_folder.read_description(run)["settings"]["records"]
    try:
        return records.load_manifest(Path(folder), "val")
    except DataError:
        return None


def _fingerprint(run: Path, val: records.Manifest | None) -> str | None:
    """Of what a run was measured on; of before it told, of what its records hold now."""
    metrics = run_folder.read_metrics(run) or {}
    return metrics.get("fingerprint", val.fingerprint if val else None)
