"""Medians of repeats that take turns, so that a slow minute of the machine hits every contender."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: what was measured.
        value: the median.
        spread: half the range of the repeats, in the same unit.
        unit: of value and spread.
        ratio: against the peer that ``against`` names, larger is better for deepgen; None where there is no peer.
        against: the peer.
        goal: the ratio asked for, or None.
    """

    name: str
    value: float
    spread: float
    unit: str
    ratio: float | None = None
    against: str = ""
    goal: float | None = None


def seconds(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contender's repeats, after one call each that is not counted.

    Args:
        contenders: name to a call that returns only when its work is done.
        repeats: how often.
        clock: what tells the time: ``time.process_time`` counts what this process did, on all of its threads, and not
            what it waited for others.

    Returns:
        Name to seconds, in the order of the repeats.
    """
    for call in contenders.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, call in contenders.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    return taken


def median(values: list[float]) -> tuple[float, float]:
    """The median and half the range."""
    return statistics.median(values), (max(values) - min(values)) / 2


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | median | ± half range | ratio | against | goal |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        goal = (
            ""
            if row.goal is None
            else f"≥ {row.goal:g}{'' if row.ratio is None or row.ratio >= row.goal else ' **missed**'}"
        )
        lines.append(
            f"| {row.name} | {row.value:,.4g} {row.unit} | {row.spread:,.2g} | {ratio} | {row.against} | {goal} |"
        )
    return "\n".join(lines)
