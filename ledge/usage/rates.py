"""Rates of a running job from two readings of its counters. Pure."""

from __future__ import annotations

from ledge.usage.usage import Usage

# How long the rates are of.
SECONDS = "RatesOverSeconds"
RATES = {
    "CpuInUseCores": ("CpuUserSeconds", "CpuSystemSeconds"),
    "BlockReadBytesPerSecond": ("BlockReadBytes",),
    "BlockWriteBytesPerSecond": ("BlockWriteBytes",),
    "NetworkReceivedBytesPerSecond": ("NetworkReceivedBytes",),
    "NetworkSentBytesPerSecond": ("NetworkSentBytes",),
}
# Of a shorter time a rate says nothing.
_SHORTEST_SECONDS = 1.0


class Rates:
    """The rates since the reading before; times are of one clock, in seconds.

    `begin` is when all counters were zero; None if nobody saw that.
    """

    __slots__ = ("_taken", "_sums")

    def __init__(self, begin: float | None) -> None:
        self._taken = begin
        self._sums: dict[str, float | None] = dict.fromkeys(RATES, 0.0)

    def add(self, usage: Usage, taken: float, rates: Usage) -> None:
        """Add to `rates` those since the usage before this one, which was read at `taken`."""
        if self._taken is not None and taken - self._taken < _SHORTEST_SECONDS:
            return
        sums = {name: _sum(usage, counters) for name, counters in RATES.items()}
        if self._taken is not None:
            seconds = taken - self._taken
            rates.figures[SECONDS] = round(seconds, 1)
            for name, sum_ in sums.items():
                before = self._sums[name]
                if sum_ is not None and before is not None:
                    rates.figures[name] = _rounded(name, max(sum_ - before, 0.0) / seconds)
        self._taken, self._sums = taken, sums


def _sum(usage: Usage, names: tuple[str, ...]) -> float | None:
    total = 0.0
    for name in names:
        value = usage.figures.get(name)
        if value is None:
            return None
        total += value
    return total


def _rounded(name: str, rate: float) -> int | float:
    return round(rate, 3) if name == "CpuInUseCores" else round(rate)
