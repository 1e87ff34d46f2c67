"""From captured text to figures: right ones, and no figure where there was none to read."""

from __future__ import annotations

import os

import pytest

from ledge.usage.of_cgroup2 import (
    CGROUP2_FILES,
    FILES_OF_NOW,
    add_peak_of_samples,
    anon_and_shmem,
    oom_level,
    usage_of_cgroup2,
    usage_of_now,
)
from ledge.usage.usage import Usage, add_logical_io
from tests.unit import captured

QUIET = captured.MEMORY_EVENTS
TEXTS: dict[str, bytes | None] = {
    "cpu.stat": captured.CPU_STAT,
    "cpu.stat.local": captured.CPU_STAT_LOCAL,
    "cpu.pressure": captured.CPU_PRESSURE,
    "memory.peak": captured.MEMORY_PEAK,
    "memory.stat": captured.MEMORY_STAT,
    "memory.swap.peak": captured.SWAP_PEAK,
    "memory.events": captured.MEMORY_EVENTS_OF_A_KILLED_JOB,
    "memory.pressure": captured.MEMORY_PRESSURE,
    "io.stat": captured.IO_STAT,
    "io.pressure": captured.IO_PRESSURE,
    "pids.peak": captured.PIDS_PEAK,
    "../cpu.stat": captured.CPU_STAT_OF_A_LIMITED_SLICE,
    "../memory.events": captured.MEMORY_EVENTS_OF_A_KILLED_SLICE,
    "../memory.events.local": captured.MEMORY_EVENTS_LOCAL_OF_A_KILLED_SLICE,
    "../memory.max": b"1073741824\n",
    "../pids.events": captured.PIDS_EVENTS,
    "job/pids.events": b"max 0\n",
}
PAGE = os.sysconf("SC_PAGE_SIZE")
FIGURES = {
    "CpuUserSeconds": 38.557845,
    "CpuSystemSeconds": 25.19169,
    "CpuThrottledSeconds": 3.520174,
    "CpuThrottledPeriodsCount": 41,
    "CpuPeriodsCount": 57,
    "CpuThrottledAnywhereSeconds": 3.498211,
    "MemoryPeakBytes": 80109568,
    "SwapPeakBytes": 0,
    "PageFaultsMinorCount": 39211 - 4946,
    "PageFaultsMajorCount": 4946,
    "RefaultsAnonCount": 34620,
    "RefaultsFileCount": 32768,
    "SwapInBytes": 15149 * PAGE,
    "SwapOutBytes": 20338 * PAGE,
    "ZswapInBytes": 19432 * PAGE,
    "ZswapOutBytes": 28362 * PAGE,
    "BlockReadBytes": 49479680,
    "BlockWriteBytes": 3084288,
    "BlockReadOperations": 1199,
    "BlockWriteOperations": 620,
    "BlockDiscardBytes": 0,
    "BlockDiscardOperations": 0,
    "ProcessesPeak": 14,
    "ForksRefusedCount": 3,
    "PressureCpuSomeSeconds": 12.305816,
    "PressureCpuFullSeconds": 7.144294,
    "PressureMemorySomeSeconds": 0.0,
    "PressureMemoryFullSeconds": 0.0,
    "PressureIoSomeSeconds": 0.383818,
    "PressureIoFullSeconds": 0.363739,
    "OomKills": 22,
    "OomCount": 1,
    "OomGroupKillsCount": 1,
    "MemoryHighCount": 502,
    "MemoryMaxCount": 21,
}
OF_FILE = {
    "cpu.stat": {"CpuUserSeconds", "CpuSystemSeconds"},
    "cpu.stat.local": {"CpuThrottledAnywhereSeconds"},
    "cpu.pressure": {"PressureCpuSomeSeconds", "PressureCpuFullSeconds"},
    "memory.peak": {"MemoryPeakBytes"},
    "memory.stat": {
        "PageFaultsMinorCount", "PageFaultsMajorCount", "RefaultsAnonCount", "RefaultsFileCount",
        "SwapInBytes", "SwapOutBytes", "ZswapInBytes", "ZswapOutBytes",
    },
    "memory.swap.peak": {"SwapPeakBytes"},
    "memory.events": {"OomKills"},
    "memory.pressure": {"PressureMemorySomeSeconds", "PressureMemoryFullSeconds"},
    "io.stat": {
        "BlockReadBytes", "BlockWriteBytes", "BlockReadOperations", "BlockWriteOperations",
        "BlockDiscardBytes", "BlockDiscardOperations",
    },
    "io.pressure": {"PressureIoSomeSeconds", "PressureIoFullSeconds"},
    "pids.peak": {"ProcessesPeak"},
    "../cpu.stat": {"CpuThrottledSeconds", "CpuThrottledPeriodsCount", "CpuPeriodsCount"},
    "../memory.events": {"OomCount", "OomGroupKillsCount", "MemoryHighCount", "MemoryMaxCount"},
}  # fmt: skip


def reasons(usage: Usage) -> str:
    """All that is said about figures that were not measured."""
    return repr(usage.unmeasured)


def test_every_file_of_a_real_group() -> None:
    assert set(TEXTS) == set(CGROUP2_FILES)
    usage = usage_of_cgroup2(TEXTS)
    assert usage.figures == pytest.approx(FIGURES)
    assert usage.tracking == "cgroup"
    assert usage.oom_level == "slice"
    assert not usage.unmeasured


@pytest.mark.parametrize(("file", "names"), OF_FILE.items())
@pytest.mark.parametrize("text", [None, b"what is this\n"], ids=["missing", "garbage"])
def test_a_bad_file_takes_its_figures_and_no_others(
    file: str, names: set[str], text: bytes | None
) -> None:
    usage = usage_of_cgroup2({**TEXTS, file: text})
    assert {name for name, value in usage.figures.items() if value is None} == names
    for name in names:
        assert name in reasons(usage)
    assert file.replace("../", "the slice's ") in "".join(usage.unmeasured)


@pytest.mark.parametrize(
    ("file", "kernel"),
    [
        ("memory.peak", "5.19"),
        ("pids.peak", "6.1"),
        ("memory.swap.peak", "6.5"),
        ("cpu.stat.local", "6.6"),
    ],
)
def test_a_file_of_later_kernels_is_missed_naming_the_kernel(file: str, kernel: str) -> None:
    assert kernel in reasons(usage_of_cgroup2({**TEXTS, file: None}))


def test_a_missing_key_is_no_zero() -> None:
    usage = usage_of_cgroup2({**TEXTS, "cpu.stat": b"usage_usec 5\n", "memory.events": b"low 0\n"})
    assert usage.figures["CpuUserSeconds"] is None
    assert usage.figures["OomKills"] is None


def test_a_key_of_later_kernels_is_missed_naming_the_kernel() -> None:
    lines = captured.MEMORY_STAT.splitlines(keepends=True)
    older = b"".join([line for line in lines if b"swp" not in line])
    usage = usage_of_cgroup2({**TEXTS, "memory.stat": older})
    assert usage.figures["SwapInBytes"] is None
    assert usage.figures["PageFaultsMajorCount"] == 4946
    assert usage.unmeasured == {
        "not in memory.stat (Linux 6.13 has it)": ["SwapInBytes", "SwapOutBytes"],
        "not in memory.stat (Linux 5.19, with zswap, has it)": ["ZswapInBytes", "ZswapOutBytes"],
    }


def test_a_file_that_was_not_read_is_told_from_one_that_is_not_there() -> None:
    texts = {name: text for name, text in TEXTS.items() if not name.startswith("../")}
    usage = usage_of_cgroup2(texts, unread="the group above is not the job's alone")
    (names,) = usage.unmeasured.values()
    assert list(usage.unmeasured) == ["the group above is not the job's alone"]
    assert set(names) == OF_FILE["../cpu.stat"] | OF_FILE["../memory.events"]
    assert usage.oom_level is None


def test_a_slice_without_cpu_controller_is_not_throttled_but_not_zero_either() -> None:
    texts = {**TEXTS, "../cpu.stat": captured.CPU_STAT_WITHOUT_CONTROLLER}
    figures = usage_of_cgroup2(texts).figures
    assert {figures[name] for name in OF_FILE["../cpu.stat"]} == {None}


@pytest.mark.parametrize(
    ("slice_", "leaf", "expected"),
    [
        (b"max 3\n", b"max 0\n", 3),  # Linux 6.11, the limit is the slice's
        (b"max 3\n", b"max 1\n", 3),  # one of them refused by a limit of the job's own
        (b"max 0\n", b"max 5\n", 5),  # Linux 6.10: where the fork failed
        (None, b"max 5\n", 5),
        (b"max 3\n", None, 3),
        (None, None, None),
        (b"max many\n", b"max 5\n", None),
    ],
)
def test_refused_forks_count_where_the_kernel_counts_them(
    slice_: bytes | None, leaf: bytes | None, expected: int | None
) -> None:
    usage = usage_of_cgroup2({**TEXTS, "../pids.events": slice_, "job/pids.events": leaf})
    assert usage.figures["ForksRefusedCount"] == expected
    assert ("ForksRefusedCount" in reasons(usage)) == (expected is None)


KILLED = QUIET.replace(b"oom_kill 0", b"oom_kill 1")
LIMIT_HIT = QUIET.replace(b"oom 0", b"oom 1")
LIMIT_HIT_AND_KILLED = LIMIT_HIT.replace(b"oom_kill 0", b"oom_kill 1")


@pytest.mark.parametrize(
    ("events", "local", "level"),
    [
        (QUIET, QUIET, None),
        # The limit was reached and something freed memory before anybody was killed.
        (LIMIT_HIT, LIMIT_HIT, None),
        (LIMIT_HIT_AND_KILLED, LIMIT_HIT, "slice"),
        (LIMIT_HIT_AND_KILLED, QUIET, "job"),
        (KILLED, QUIET, "above"),
        (captured.MEMORY_EVENTS_UNTIL_5_16, captured.MEMORY_EVENTS_UNTIL_5_16, "slice"),
    ],
)
def test_whose_limit_killed(events: bytes, local: bytes, level: str | None) -> None:
    assert oom_level(events, local) == level
    texts = {**TEXTS, "../memory.events": events, "../memory.events.local": local}
    assert usage_of_cgroup2(texts).oom_level == level


@pytest.mark.parametrize("text", [None, b"", b"oom some\n", b"what is this\n"])
@pytest.mark.parametrize("file", ["../memory.events", "../memory.events.local"])
def test_whose_limit_killed_is_unknown(file: str, text: bytes | None) -> None:
    texts = {
        "../memory.events": LIMIT_HIT_AND_KILLED,
        "../memory.events.local": LIMIT_HIT,
        file: text,
    }
    assert usage_of_cgroup2({**TEXTS, **texts}).oom_level is None


@pytest.mark.parametrize(
    ("limit", "swap", "suggested"),
    [
        (b"1073741824\n", b"0\n", 1536),
        (b"1073741824\n", b"1073741824\n", 3072),
        (b"1073741825\n", None, 1664),
        (b"1\n", None, 128),
        (b"max\n", None, None),
        (b"much\n", None, None),
        (None, None, None),
    ],
)
def test_what_to_ask_for_next(
    limit: bytes | None, swap: bytes | None, suggested: int | None
) -> None:
    usage = usage_of_cgroup2({**TEXTS, "../memory.max": limit, "memory.swap.peak": swap})
    assert usage.suggested_request_mib == suggested


@pytest.mark.parametrize(("events", "local"), [(QUIET, QUIET), (KILLED, QUIET)])
def test_who_did_not_hit_its_own_limit_need_not_ask_for_more(events: bytes, local: bytes) -> None:
    texts = {**TEXTS, "../memory.events": events, "../memory.events.local": local}
    assert usage_of_cgroup2(texts).suggested_request_mib is None


def test_anon_and_shmem() -> None:
    assert anon_and_shmem(captured.MEMORY_STAT) == 19009536 + 1830912


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"what is this\n",
        b"anon 5\nfile 7\n",
        b"anon x\nshmem 7\n",
        b"anon 5\nshmem \n",
        b"file 5\nanon 6\nshmem 7\n",  # version 2 begins with anon
    ],
)
def test_anon_and_shmem_of_no_memory_stat(text: bytes | None) -> None:
    assert anon_and_shmem(text) is None


def test_the_peak_of_samples_is_told_apart() -> None:
    usage = Usage("cgroup")
    add_peak_of_samples(usage, captured.MEMORY_STAT, "highest of 7 readings")
    assert usage.figures == {
        "MemoryAnonShmemPeakBytes": 20840448,
        "MemoryAnonAtPeakBytes": 19009536,
        "MemoryShmemAtPeakBytes": 1830912,
        "MemoryFileAtPeakBytes": 18608128,
        "MemoryKernelAtPeakBytes": 3272704,
        "MemorySockAtPeakBytes": 2641920,
    }
    assert usage.sampled == {
        "highest of 7 readings": ["MemoryAnonShmemPeakBytes", "Memory*AtPeakBytes"]
    }


def test_no_peak_of_no_samples() -> None:
    usage = Usage("cgroup")
    add_peak_of_samples(usage, None, "nobody looked")
    assert usage.figures["MemoryAnonShmemPeakBytes"] is None
    assert list(usage.unmeasured) == ["nobody looked"]
    assert not usage.sampled


def test_now() -> None:
    texts: dict[str, bytes | None] = {
        "memory.current": b"70000000\n",
        "memory.stat": captured.MEMORY_STAT,
        "memory.swap.current": b"4096\n",
        "pids.current": b"5\n",
    }
    assert set(texts) == set(FILES_OF_NOW)
    assert usage_of_now(texts).figures == {
        "MemoryCurrentBytes": 70000000,
        "MemoryAnonBytes": 19009536,
        "MemoryShmemBytes": 1830912,
        "MemoryFileBytes": 18608128,
        "MemoryKernelBytes": 3272704,
        "MemorySockBytes": 2641920,
        "SwapCurrentBytes": 4096,
        "ProcessesCount": 5,
    }
    assert set(usage_of_now({**texts, "pids.current": b"?"}).unmeasured) == {
        "pids.current makes no sense: pids.current: expected a number, not b'?'"
    }


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
    assert figures["BlockDiscardBytes"] == 50331648
    assert figures["BlockDiscardOperations"] == 3021


def test_each_device_by_its_name() -> None:
    texts = {**TEXTS, "io.stat": captured.IO_STAT_OF_MANY_DEVICES}
    names = {b"8:16": "sdb", b"7:0": "loop0"}
    devices = usage_of_cgroup2(texts, frozenset([b"253:0"]), names).devices
    assert set(devices) == {"8:0", "sdb"}  # the stacked one and the idle one are left out
    assert devices["sdb"] == {
        "rbytes": 90430464,
        "wbytes": 299008000,
        "rios": 8950,
        "wios": 1252,
        "dbytes": 50331648,
        "dios": 3021,
    }


@pytest.mark.parametrize(
    ("told", "read", "incomplete"),
    [
        ((10, 20, True), 10, ""),
        ((10, 20, False), 10, "processes were left"),
        (None, None, "init told nothing"),
    ],
)
def test_logical_io(
    told: tuple[int, int, bool] | None, read: int | None, incomplete: str
) -> None:
    usage = Usage("cgroup")
    add_logical_io(usage, told)
    assert usage.figures["LogicalReadBytes"] == read
    assert incomplete in "".join(usage.incomplete)
    assert bool(usage.incomplete) == bool(incomplete)
