"""The dashboard's panels as a picture, from the same queries. Not Grafana: matplotlib draws."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.dates
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.monitoring.dashboard import Panel, fill_in, format_legend
from benchmarks.monitoring.stack import Stack

UNIT = 0.75  # inches of one of the 24 columns
HEIGHT = 0.42  # inches of one of Grafana's lines
STEPS = 240  # points of a curve
INK, PAPER, QUIET = "#202226", "#ffffff", "#8e8e8e"
COLOURS = {"red": "#d9534f", "green": "#56a64b", "yellow": "#f2cc0c", "orange": "#ff9830"}
COLOURS |= {"blue": "#5794f2"}
SCALES = {"percentunit": (100, " %"), "s": (1000, " ms"), "reqps": (1, " /s"), "short": (1, "")}


@dataclass(frozen=True)
class Window:
    """What is shown: seconds of the wall clock."""

    begin: float
    end: float

    @property
    def step(self) -> float:
        return max(1.0, (self.end - self.begin) / STEPS)


@dataclass(frozen=True)
class Series:
    """A curve: its name, its times in matplotlib's days, its values with gaps as NaN."""

    name: str
    times: np.ndarray
    values: np.ndarray


def draw_panels(stack: Stack, panels: Sequence[Panel], window: Window, output: Path) -> None:
    """Ask Prometheus and write a PNG; stats show the end of the window."""
    matplotlib.use("Agg")
    top = min(panel.place[1] for panel in panels)
    lines = max(panel.place[1] + panel.place[3] for panel in panels) - top
    figure = plt.figure(figsize=(24 * UNIT, lines * HEIGHT), facecolor=PAPER)
    for panel in panels:
        x, y, width, height = panel.place
        y -= top
        edges = (
            (x + 0.9 * (panel.kind != "stat") + 0.15) / 24,
            1 - (y + height - 0.9 * (panel.kind != "stat") - 0.2) / lines,
            (width - 0.9 * (panel.kind != "stat") - 0.4) / 24,
            (height - 1.2 - 0.9 * (panel.kind != "stat")) / lines,
        )
        axes = figure.add_axes(edges)
        axes.set_title(panel.title, fontsize=11, loc="left", color=INK, pad=4)
        DRAW[panel.kind](axes, panel, stack, window)
    figure.savefig(output, dpi=72)
    plt.close(figure)


def _draw_stat(axes: Axes, panel: Panel, stack: Stack, window: Window) -> None:
    values = [_last_value(stack, query, window.end) for query in panel.queries.values()]
    shown = [_format(value, panel.defaults) for value in values]
    names = list(panel.queries)
    text = " ".join(f"{value} {name}".strip() for value, name in zip(shown, names, strict=True))
    if len(shown) > 1:  # "2 answer of 2" reads as "2 of 2"
        text = " of ".join(shown)
    axes.set_facecolor(_colour_of(values[0], panel.defaults))
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=18, color="white", weight="bold")
    axes.set(xticks=[], yticks=[])


def _last_value(stack: Stack, query: str, end: float) -> float:
    found = stack.query_range(fill_in(query), end - 2, end, 1)
    return float(found[0]["values"][-1][1]) if found else math.nan


def _format(value: float, defaults: Mapping[str, Any]) -> str:
    if math.isnan(value):
        return str(defaults.get("noValue", "no data"))
    scale, unit = SCALES[defaults["unit"]]
    return f"{value * scale:.3g}{unit}" if unit != " %" else f"{value * scale:.1f}{unit}"


def _colour_of(value: float, defaults: Mapping[str, Any]) -> str:
    """The colour of the last threshold that the value reaches."""
    if math.isnan(value):
        return QUIET
    steps = defaults["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]["color"]]


def _draw_curves(axes: Axes, panel: Panel, stack: Stack, window: Window) -> None:
    scale, unit = SCALES[panel.defaults["unit"]]
    curves = _ask_all(panel, stack, window)
    if panel.defaults["custom"]["stacking"]["mode"] == "normal" and curves:
        values = [np.nan_to_num(curve.values) * scale for curve in curves]
        axes.stackplot(curves[0].times, values, labels=[c.name for c in curves], alpha=0.8)
    else:
        for curve in curves:
            axes.plot(curve.times, curve.values * scale, label=curve.name, linewidth=1.2)
    axes.set_ylabel(unit.strip(), fontsize=8, color=QUIET)
    axes.set_ylim(bottom=0)
    if curves:
        axes.legend(fontsize=8, loc="upper left", frameon=False, ncols=1 + len(curves) // 8)
    _dress(axes, window)


def _draw_states(axes: Axes, panel: Panel, stack: Stack, window: Window) -> None:
    curves = _ask_all(panel, stack, window)
    shown = _mappings(panel.defaults)
    width = window.step / 86400
    for row, curve in enumerate(curves):
        for time, value in zip(curve.times, curve.values, strict=True):
            if not math.isnan(value):
                colour = shown.get(f"{value:g}", COLOURS["blue"])
                axes.barh(row, width, left=time, height=0.7, color=colour, linewidth=0)
        _write_changes(axes, row, curve, shown)
    for row, curve in enumerate(curves):
        axes.text(
            0.03, row, curve.name, transform=axes.get_yaxis_transform(), fontsize=9, va="center"
        )
    axes.set_yticks([])
    axes.set_ylim(len(curves) - 0.4, -0.6)
    _dress(axes, window)


def _mappings(defaults: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each value that has one."""
    options = [mapping["options"] for mapping in defaults.get("mappings", ())]
    return {value: COLOURS[how["color"]] for each in options for value, how in each.items()}


def _write_changes(axes: Axes, row: int, curve: Series, shown: Mapping[str, str]) -> None:
    """Write numbers that are no yes or no, where they begin."""
    if shown:
        return
    before = math.nan
    for time, value in zip(curve.times, curve.values, strict=True):
        if value != before and not math.isnan(value):
            axes.text(
                time, row, f"{value:g}", fontsize=9, color="white", va="center", weight="bold"
            )
        before = value


def _ask_all(panel: Panel, stack: Stack, window: Window) -> list[Series]:
    """All series of a panel, each at the same times."""
    times = np.arange(window.begin, window.end, window.step)
    found = []
    for legend, query in panel.queries.items():
        answer = stack.query_range(fill_in(query), times[0], times[-1], window.step)
        for each in answer:
            values = np.full(len(times), np.nan)
            for time, value in each["values"]:
                values[round((time - times[0]) / window.step)] = float(value)
            name = format_legend(legend, each["metric"])
            found.append(Series(name, times / 86400, values))
    return found


def _dress(axes: Axes, window: Window) -> None:
    """Times below, and nothing that draws the eye."""
    axes.set_xlim(window.begin / 86400, window.end / 86400)
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(maxticks=5))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=8, colors=QUIET, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.3)


DRAW = {"stat": _draw_stat, "timeseries": _draw_curves, "state-timeline": _draw_states}
