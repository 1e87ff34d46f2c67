"""Rates from two readings; none where there is nothing to divide."""

from __future__ import annotations

import pytest

from ledge.usage.rates import Rates
from ledge.usage.usage import Usage

NAMES = (
    "CpuInUseCores",
    "BlockReadBytesPerSecond",
    "BlockWriteBytesPerSecond",
    "NetworkReceivedBytesPerSecond",
    "NetworkSentBytesPerSecond",
)


def reading(factor: int) -> Usage:
    usage = Usage("cgroup")
    usage.figures = {
        "CpuUserSeconds": 15.0 * factor,
        "CpuSystemSeconds": 5.0 * factor,
        "BlockReadBytes": 100 * factor,
        "BlockWriteBytes": 200 * factor,
        "NetworkReceivedBytes": 300 * factor,
        "NetworkSentBytes": 400 * factor,
    }
    return usage


def rates_of(usage: Usage) -> list[int | float | None]:
    return [usage.figures.get(name) for name in NAMES]


def test_since_the_beginning_and_since_the_reading_before() -> None:
    rates = Rates(100.0)
    first, second = reading(1), reading(3)
    rates.add(first, 110.0, first)
    rates.add(second, 130.0, second)
    assert rates_of(first) == [2.0, 10, 20, 30, 40]
    assert first.figures["RatesOverSeconds"] == 10.0
    assert rates_of(second) == [2.0, 10, 20, 30, 40]
    assert second.figures["RatesOverSeconds"] == 20.0


def test_of_a_job_whose_beginning_nobody_saw() -> None:
    rates = Rates(None)
    first, second = reading(1), reading(2)
    rates.add(first, 110.0, first)
    rates.add(second, 120.0, second)
    assert rates_of(first) == [None] * 5
    assert rates_of(second) == [2.0, 10, 20, 30, 40]


def test_what_is_not_measured_has_no_rate() -> None:
    rates = Rates(100.0)
    usage = reading(1)
    usage.figures["CpuSystemSeconds"] = None
    del usage.figures["NetworkSentBytes"]
    rates.add(usage, 110.0, usage)
    assert rates_of(usage) == [None, 10, 20, 30, None]


def test_what_has_been_measured_once_only_has_no_rate() -> None:
    rates = Rates(100.0)
    first = reading(1)
    first.figures["BlockReadBytes"] = None
    rates.add(first, 110.0, first)
    second = reading(2)
    rates.add(second, 120.0, second)
    assert rates_of(second) == [2.0, None, 20, 30, 40]


def test_of_a_moment_there_is_no_rate_and_the_next_is_of_the_whole_time() -> None:
    rates = Rates(100.0)
    moment, later = reading(1), reading(1)
    rates.add(moment, 100.5, moment)
    rates.add(later, 110.0, later)
    assert rates_of(moment) == [None] * 5
    assert rates_of(later)[0] == pytest.approx(2.0)
