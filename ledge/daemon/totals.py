"""What the jobs of a node and of its slots have used since ledged was started. No I/O.

For counters that monitoring derives rates from: they must not go back when a job ends, nor leap
when ledged is started anew under running jobs. So what a job used before ledged saw it is left out,
and what it had used at its end stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

COUNTERS = (
    "CpuUserSeconds",
    "CpuSystemSeconds",
    "BlockReadBytes",
    "BlockWriteBytes",
    "BlockReadOperations",
    "BlockWriteOperations",
    "NetworkReceivedBytes",
    "NetworkSentBytes",
    "NetworkReceivedPacketsCount",
    "NetworkSentPacketsCount",
    "SwapInBytes",
    "SwapOutBytes",
    "PageFaultsMajorCount",
    "OomKills",
)
# Slots come and go, and their names may be a user's invention: the one that was idle longest goes.
MOST_SLOTS = 1024

# In the order of COUNTERS; None is a figure that no job had.
Sums = list[Optional[float]]


class Totals:
    """Of jobs that have ended; `running` are added for an answer, and not kept."""

    def __init__(self) -> None:
        self.node: Sums = [None] * len(COUNTERS)
        self.slots: dict[str, Sums] = {}

    def end(self, slot: str, used: Sums) -> None:
        """A job has ended, and `used` is all of it that ledged has seen."""
        add(self.node, used)
        sums = self.slots.pop(slot, None) or [None] * len(COUNTERS)
        add(sums, used)
        self.slots[slot] = sums
        if len(self.slots) > MOST_SLOTS:
            del self.slots[next(iter(self.slots))]

    def with_running(self, running: list[tuple[str, Sums]]) -> tuple[Sums, dict[str, Sums]]:
        """The sums of the node and of each slot, with those of the jobs that run."""
        node = list(self.node)
        slots = {slot: list(sums) for slot, sums in self.slots.items()}
        for slot, used in running:
            add(node, used)
            add(slots.setdefault(slot, [None] * len(COUNTERS)), used)
        return node, slots


def add(sums: Sums, used: Sums) -> None:
    """Add what is known to the sums, in place."""
    for number, value in enumerate(used):
        if value is not None:
            sums[number] = (sums[number] or 0) + value


def used_since(
    figures: Mapping[str, int | float | None], before: Mapping[str, int | float | None] | None
) -> Sums:
    """The counters of a job, without those `before` ledged saw it; None: it saw all."""
    if before is None:
        return [figures.get(name) for name in COUNTERS]
    used: Sums = []
    for name in COUNTERS:
        value, earlier = figures.get(name), before.get(name)
        known = value is not None and earlier is not None
        used.append(max(value - earlier, 0) if known else None)  # type: ignore[operator]  # both are
    return used
