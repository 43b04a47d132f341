"""What live figures say beside the reference: what moved, and what cannot be told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serving.monitoring.judgement import Finding, Sample, compare_samples, count_needed
from serving.monitoring.statistic import IMAGES, SCORE, Statistic

Samples = Mapping[Statistic, Sample]
SAME, MOVED, UNTOLD = "no drift", "drift", "cannot tell"


@dataclass
class Verdict:
    """What was found.

    Attributes:
        version: whose reference it was compared with, 0 where that is not known.
        seconds: the window.
        images: how many were counted in it.
        needed: how many there must be.
        findings: each statistic that was judged, what moved most first.
        doubts: why all or a part of it could not be judged, a sentence each.
        notes: what else is worth knowing, a sentence each.
    """

    version: int = 0
    seconds: int = 0
    images: int = 0
    needed: int = 0
    findings: list[Finding] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def moved(self) -> list[Finding]:
        """What moved, most first."""
        return [each for each in self.findings if each.moved]

    @property
    def word(self) -> str:
        """MOVED whatever else could not be judged; SAME only where all could."""
        if self.moved:
            return MOVED
        return UNTOLD if self.doubts else SAME


def judge_samples(verdict: Verdict, live: Samples, reference: Samples) -> None:
    """Fill in a verdict.

    Args:
        verdict: of a version and a window.
        live: what was counted in the window.
        reference: what the version met on its validation set.
    """
    known = reference[IMAGES].size
    verdict.images = int(live[IMAGES].size) if IMAGES in live else 0
    verdict.needed = count_needed(known, len(reference)) or 0
    if not verdict.needed:
        verdict.doubts.append(
            f"the reference of version {verdict.version} is too small to tell anything: it has "
            f"{known:.0f} images; train with more in the val split"
        )
    elif verdict.images < verdict.needed:
        verdict.doubts.append(
            f"not enough to tell: {verdict.images} images, {verdict.needed} needed"
        )
    else:
        verdict.doubts += _find_strangers(live, reference)
        both = {each for each in reference if each in live and _share_bins(live, reference, each)}
        few = {each for each in both if _is_few(live[each], reference[each], len(reference))}
        verdict.notes += _describe_few(each for each in few if each.name == SCORE)
        verdict.doubts += _describe_few(each for each in few if each.name != SCORE)
        verdict.findings = compare_samples({each: live[each] for each in both - few}, reference)


def _find_strangers(live: Samples, reference: Samples) -> Iterator[str]:
    """A sentence for each statistic, or class, that only one of the two has."""
    seen, counted = ({each.label for each in samples} - {""} for samples in (reference, live))
    for label in sorted(counted - seen):
        yield f"the reference never saw the class {label}, which is counted live"
    for label in sorted(seen - counted):
        yield f"the class {label} of the reference is not counted live any more"
    for name in (each.name for each in reference if not each.label and each not in live):
        yield f"Prometheus has no ssd_{name}"
    for each in reference:
        if each in live and not _share_bins(live, reference, each):
            yield f"{each} is counted in other bins than the reference's: export the artifact again"


def _share_bins(live: Samples, reference: Samples, statistic: Statistic) -> bool:
    return live[statistic].values.common_edges(reference[statistic].values).size > 0


def _is_few(live: Sample, reference: Sample, statistics: int) -> bool:
    """Whether there is too little of a statistic, here or there, to judge it."""
    needed = count_needed(reference.size, statistics)
    return needed is None or live.size < needed


def _describe_few(statistics: Iterator[Statistic]) -> list[str]:
    names = ", ".join(sorted(map(str, statistics)))
    return [f"too few to judge: {names}"] if names else []
