"""Tables and pictures of serving_speed's result."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

matplotlib.use("Agg")

CASES = {
    "float32": "float32, the same file and decoding for all",
    "int8": "int8, the same file and decoding for all",
    "documented": "float32 and full decoding, as the peers' documentation shows",
}
OURS, PEER, PLAIN = "#2a6f97", "#b0b7bd", "#e07a5f"


def write_report(folder: Path, result: Mapping[str, Any]) -> None:
    """result.json, tables.md and the pictures."""
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "tables.md").write_text(tables(result) + "\n")
    if result["contestants"]:
        _draw_ratios(result["contestants"], folder / "ratios.png")
    if result["open_loop"]:
        _draw_curves(result["open_loop"], folder / "arrival_rates.png")


def tables(result: Mapping[str, Any]) -> str:
    """All tables as Markdown."""
    blocks = [_machine_line(result)]
    for case, title in CASES.items():
        rows = [each for each in result["contestants"] if each["case"] == case]
        if rows:
            blocks.append(f"**{title}**\n\n{_closed_table(rows)}")
    above = [each for each in result["contestants"] if each["above_bare_ms"]]
    if above:
        blocks.append(f"**one request at a time**\n\n{_above_table(above)}")
    blocks += [_head_line(each) for each in result["head_to_head"]]
    for each in result["open_loop"]:
        blocks.append(f"**arrival rates, {each['case']}**\n\n{_open_table(each)}")
        if "at_fixed_rate" in each:
            blocks.append(_tail_line(each))
    blocks += [_perf_line(each) for each in result["perf_analyzer"]]
    blocks += [f"failed: {name}: {why.splitlines()[0]}" for name, why in result["failed"].items()]
    return "\n\n".join(blocks)


def _machine_line(result: Mapping[str, Any]) -> str:
    """What it was measured on."""
    m = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in m["packages"].items() if version)
    return (
        f"{m['processor']}, {m['cores']:g} cores, {', '.join(m['flags'])}; Python {m['python']}, "
        f"{packages}; commit {m['commit']}; {result['photos']} photos; {m['time']}"
    )


def _closed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each contestant at its best concurrency, the best first."""
    lines = [
        "| | at | of bare | net | photos/s | p50, p99 ms | CPU ms a photo (of bare) "
        "| generator ms | MiB (PSS, RSS) | mAP@0.5 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(rows, key=lambda row: -best(row)["of_bare"]["median"]):
        found = best(each)
        bare = each["bare"]["cpu_ms"]["worker"]
        cpu = sum(found["cpu_ms"].values())
        sizes = each["memory_mib"].values()
        cells = [
            each["name"],
            each["best"],
            interval(found["of_bare"]),
            f"{found['of_bare_net']['median']:.2f}",
            f"{found['throughput']['median']:.0f}",
            f"{found['latency_ms']['p50']:.1f}, {found['latency_ms']['p99']:.1f}",
            f"{cpu:.2f} ({cpu / bare:.2f})",
            f"{found['generator_ms']:.2f}",
            f"{sum(s['pss'] for s in sizes):.0f}, {sum(s['rss'] for s in sizes):.0f}",
            f"{each['mAP@0.5']:.3f}" if each["mAP@0.5"] is not None else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def best(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A contestant's figures at its best concurrency."""
    found: Mapping[str, Any] = row["concurrency"][row["best"]]
    return found


def interval(spread: Mapping[str, float], digits: int = 2) -> str:
    """Median and quartiles."""
    return f"{spread['median']:.{digits}f} ({spread['q1']:.{digits}f} to {spread['q3']:.{digits}f})"


def _above_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """By how much one request at a time takes longer than in the bare pipeline."""
    kinds = list(rows[0]["above_bare_ms"])
    lines = [
        f"| | p50, p99 ms | {' | '.join(f'ms above {kind}' for kind in kinds)} |",
        f"|---|---|{'---|' * len(kinds)}",
    ]
    for each in rows:
        ms = each["concurrency"]["1"]["latency_ms"]
        cells = [interval(each["above_bare_ms"][kind]) for kind in kinds]
        name = f"{each['name']}, {each['case']}"
        lines.append(f"| {name} | {ms['p50']:.1f}, {ms['p99']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _head_line(each: Mapping[str, Any]) -> str:
    """Two contestants side by side."""
    ours, theirs = each["p99_ms"]
    return (
        f"{each['first']}, beside {each['second']}, concurrency "
        f"{each['concurrency']}: {interval(each['ratio'])} times the throughput; p99 "
        f"{interval(ours, 1)} ms beside {interval(theirs, 1)} ms{maps(each['mAP@0.5'])}"
    )


def maps(values: Sequence[float | None]) -> str:
    """The mAP of two contestants, if it was measured."""
    if None in values:
        return ""
    return f"; mAP@0.5 {values[0]:.3f} beside {values[1]:.3f}"


def _open_table(each: Mapping[str, Any]) -> str:
    """A row for each arrival rate."""
    lines = [
        "| | photos/s sent | answered | p50 ms | p99 ms | refused or failed "
        "| generator late by (p99), ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in each["points"]:
        ms = point["latency_ms"]
        bad = {k: v for k, v in point["verdicts"].items() if k != "OK"}
        total = sum(point["verdicts"].values())
        refused = ", ".join(f"{100 * v / total:.0f}% {k}" for k, v in bad.items())
        lines.append(
            f"| {point['name']} | {point['sent']:.0f} ({point['share']:.0%}) "
            f"| {point['throughput']:.0f} | {ms['p50']:.1f} | {ms['p99']:.1f} | {refused} "
            f"| {point['lateness_p99_ms']:.1f} |"
        )
    ends = ", ".join(f"{name} {rate:.0f}" for name, rate in each["saturation"].items())
    return "\n".join(lines) + f"\n\nsaturated above, photos a second: {ends}"


def _tail_line(each: Mapping[str, Any]) -> str:
    """Tails at the same rate."""
    fixed = each["at_fixed_rate"]
    parts = [
        f"{name} {interval(found['p99_ms'], 1)} ms" for name, found in fixed["contestants"].items()
    ]
    return f"p99 at {fixed['rate']:.0f} photos a second, {each['case']}: {', '.join(parts)}"


def _perf_line(each: Mapping[str, Any]) -> str:
    """The independent generator beside the own."""
    return (
        f"perf_analyzer beside the own generator, {each['case']}, concurrency "
        f"{each['concurrency']}: {interval(each['ratio'])} of its throughput, net "
        f"{interval(each['ratio_net'])}"
    )


def _draw_ratios(contestants: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars: throughput of the bare pipeline's, by case."""
    cases = [case for case in CASES if any(each["case"] == case for each in contestants)]
    figure, axes = pyplot.subplots(
        1, len(cases), figsize=(5.2 * len(cases), 4.2), squeeze=False, sharex=True
    )
    for axis, case in zip(axes[0], cases, strict=True):
        rows = sorted(
            (each for each in contestants if each["case"] == case),
            key=lambda row: best(row)["of_bare"]["median"],
        )
        names = [each["name"] for each in rows]
        spreads = [best(each)["of_bare"] for each in rows]
        middles = [spread["median"] for spread in spreads]
        errors = [
            [max(0.0, s["median"] - s["q1"]) for s in spreads],
            [max(0.0, s["q3"] - s["median"]) for s in spreads],
        ]
        colours = [OURS if name.startswith("ensemble") else PEER for name in names]
        axis.barh(names, middles, xerr=errors, color=colours, error_kw={"elinewidth": 1})
        axis.axvline(1.0, color=PLAIN, linewidth=1.2, linestyle="--")
        for place, value in enumerate(middles):
            axis.text(0.02, place, f"{value:.2f}", va="center", fontsize=9, color="black")
        axis.set_title(CASES[case], fontsize=10)
        axis.set_xlabel("throughput, of the bare pipeline's")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_curves(loops: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Latency over the arrival rate, a panel for each case."""
    figure, axes = pyplot.subplots(1, len(loops), figsize=(6 * len(loops), 4.4), squeeze=False)
    for axis, each in zip(axes[0], loops, strict=True):
        names = list(dict.fromkeys(point["name"] for point in each["points"]))
        for name, colour in zip(names, (OURS, PLAIN), strict=False):
            points = [point for point in each["points"] if point["name"] == name]
            rates = [point["rate"] for point in points]
            for key, style in (("p50", "--"), ("p99", "-")):
                values = [point["latency_ms"][key] for point in points]
                axis.plot(
                    rates,
                    values,
                    style,
                    color=colour,
                    marker="o",
                    markersize=3,
                    label=f"{name}, {key}",
                )
            axis.axvline(each["saturation"][name], color=colour, linewidth=0.8, linestyle=":")
        axis.set_yscale("log")
        axis.set_xlabel("photos a second, arriving at random")
        axis.set_ylabel("ms from when it was meant to be sent")
        axis.set_title(each["case"])
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
