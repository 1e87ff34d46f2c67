"""From captured text to figures: right ones, and no figure where there was none to read."""

from __future__ import annotations

import pytest

from ledge.usage import CGROUP2_FILES, Usage, usage_of_cgroup2, usage_of_processes
from tests.unit import captured

TEXTS: dict[str, bytes | None] = {
    "cpu.stat": captured.CPU_STAT,
    "cpu.pressure": captured.CPU_PRESSURE,
    "memory.peak": captured.MEMORY_PEAK,
    "memory.swap.peak": captured.SWAP_PEAK,
    "memory.events": captured.MEMORY_EVENTS.replace(b"oom_kill 0", b"oom_kill 3"),
    "memory.pressure": captured.MEMORY_PRESSURE,
    "io.stat": captured.IO_STAT,
    "io.pressure": captured.IO_PRESSURE,
    "pids.peak": captured.PIDS_PEAK,
}
FIGURES = {
    "CpuUserSeconds": 38.557845,
    "CpuSystemSeconds": 25.19169,
    "MemoryPeakBytes": 80109568,
    "SwapPeakBytes": 0,
    "BlockReadBytes": 49479680,
    "BlockWriteBytes": 3084288,
    "BlockReadOperations": 1199,
    "BlockWriteOperations": 620,
    "ProcessesPeak": 14,
    "PressureCpuSomeSeconds": 12.305816,
    "PressureMemoryFullSeconds": 0.0,
    "PressureIoFullSeconds": 0.363739,
    "OomKills": 3,
}


def reasons(usage: Usage) -> str:
    """All that is said about figures that were not measured."""
    return repr(usage.unmeasured)


def test_every_file_of_a_real_group() -> None:
    assert set(TEXTS) == set(CGROUP2_FILES)
    usage = usage_of_cgroup2(TEXTS)
    assert usage.figures == pytest.approx(FIGURES)
    assert usage.tracking == "cgroup"
    assert not usage.unmeasured


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("cpu.stat", {"CpuUserSeconds", "CpuSystemSeconds"}),
        ("cpu.pressure", {"PressureCpuSomeSeconds"}),
        ("memory.peak", {"MemoryPeakBytes"}),
        ("memory.swap.peak", {"SwapPeakBytes"}),
        ("memory.events", {"OomKills"}),
        ("memory.pressure", {"PressureMemoryFullSeconds"}),
        (
            "io.stat",
            {"BlockReadBytes", "BlockWriteBytes", "BlockReadOperations", "BlockWriteOperations"},
        ),
        ("io.pressure", {"PressureIoFullSeconds"}),
        ("pids.peak", {"ProcessesPeak"}),
    ],
)
@pytest.mark.parametrize("text", [None, b"what is this\n"], ids=["missing", "garbage"])
def test_a_bad_file_takes_its_figures_and_no_others(
    file: str, names: set[str], text: bytes | None
) -> None:
    usage = usage_of_cgroup2({**TEXTS, file: text})
    assert {name for name, value in usage.figures.items() if value is None} == names
    for name in names:
        assert name in reasons(usage)
    assert file in reasons(usage)


@pytest.mark.parametrize(
    ("file", "kernel"), [("memory.peak", "5.19"), ("memory.swap.peak", "6.5"), ("pids.peak", "6.1")]
)
def test_a_file_of_later_kernels_is_missed_naming_the_kernel(file: str, kernel: str) -> None:
    assert kernel in reasons(usage_of_cgroup2({**TEXTS, file: None}))


def test_a_missing_key_is_no_zero() -> None:
    usage = usage_of_cgroup2({**TEXTS, "cpu.stat": b"usage_usec 5\n", "memory.events": b"low 0\n"})
    assert usage.figures["CpuUserSeconds"] is None
    assert usage.figures["OomKills"] is None


def test_pressure_without_a_line_full_is_no_zero() -> None:
    usage = usage_of_cgroup2({**TEXTS, "io.pressure": captured.CPU_PRESSURE_SOME_ALONE})
    assert usage.figures["PressureIoFullSeconds"] is None


def test_an_empty_io_stat_is_zero_because_nothing_was_read_or_written() -> None:
    usage = usage_of_cgroup2({**TEXTS, "io.stat": b""})
    assert usage.figures["BlockReadBytes"] == 0
    assert not usage.unmeasured


def test_nothing_at_all_measures_nothing() -> None:
    usage = usage_of_cgroup2({})
    assert set(usage.figures) == set(FIGURES)
    assert set(usage.figures.values()) == {None}


def test_devices_are_added_up() -> None:
    usage = usage_of_cgroup2({**TEXTS, "io.stat": captured.IO_STAT_OF_MANY_DEVICES})
    assert usage.figures["BlockReadBytes"] == 1459200 + 90430464 + 1459200


def test_what_a_stacked_device_passes_on_counts_once() -> None:
    texts = {**TEXTS, "io.stat": captured.IO_STAT_OF_MANY_DEVICES}
    figures = usage_of_cgroup2(texts, frozenset([b"253:0"])).figures
    assert figures["BlockReadBytes"] == 1459200 + 90430464
    assert figures["BlockWriteBytes"] == 314773504 + 299008000
    assert figures["BlockReadOperations"] == 192 + 8950
    assert figures["BlockWriteOperations"] == 353 + 1252


def test_without_a_control_group_there_is_cpu_time_and_a_reason_for_the_rest() -> None:
    usage = usage_of_processes((1.5, 0.25))
    assert usage.tracking == "processes"
    assert usage.figures["CpuUserSeconds"] == 1.5
    assert usage.figures["CpuSystemSeconds"] == 0.25
    assert "MemoryPeakBytes" not in usage.figures or usage.figures["MemoryPeakBytes"] is None
    assert "control group" in reasons(usage)
