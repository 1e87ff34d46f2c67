"""What is said of a job's figures, at the thresholds; nothing where a figure is missing."""

from __future__ import annotations

import pytest

from ledge.ledger import advice
from ledge.ledger.ledger import Ledger, ledger_of

MIB = 1 << 20
JOB = {
    "ClusterId": 1, "ProcId": 0, "JobStatus": 4, "JobCurrentStartExecutingDate": 1000,
    "ActivationExecutionDuration": 100, "RequestCpus": 4, "RequestMemory": 1024,
}  # fmt: skip


def ledger(job: dict[str, object] | None = None, /, **figures: object) -> Ledger:
    return ledger_of({**JOB, **(job or {}), "Ledge": {"Reading": "exact", **figures}})


def cpu(share: float) -> dict[str, object]:
    """Of 4 CPUs for 100 s."""
    return {"CpuUserSeconds": share * 400.0, "CpuSystemSeconds": 0.0}


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (cpu(0.96), "Used 96 % of its 4 CPUs."),
        (cpu(0.5), "Used 50 % of its 4 CPUs."),
        (cpu(0.49), "Used 49 % of its 4 CPUs: on average, request_cpus = 2 would have done."),
        (cpu(0.0), "Used 0 % of its 4 CPUs: on average, request_cpus = 1 would have done."),
        (
            {**cpu(0.11), "PressureIoSomeSeconds": 20.0, "PressureMemorySomeSeconds": 19.9},
            "Used 11 % of its 4 CPUs; its processes waited for the disk 20 % of the time.",
        ),
        (
            {**cpu(0.11), "PressureIoSomeSeconds": 30.0, "PressureMemorySomeSeconds": 60.0},
            "Used 11 % of its 4 CPUs; its processes waited for memory 60 % and the disk 30 % of "
            "the time.",
        ),
        ({**cpu(0.5), "PressureIoSomeSeconds": 70.0}, "Used 50 % of its 4 CPUs."),
        ({"CpuUserSeconds": 3.0}, None),
    ],
)
def test_processor(figures: dict[str, object], sentence: str | None) -> None:
    assert advice.processor(ledger(**figures)) == sentence


@pytest.mark.parametrize(("wall", "told"), [(29, False), (30, True)])
def test_nothing_of_the_processor_where_the_time_is_too_short(wall: int, told: bool) -> None:
    job = ledger({"ActivationExecutionDuration": wall}, **cpu(0.1))
    assert (advice.processor(job) is not None) == told


@pytest.mark.parametrize("name", ["RequestCpus", "ActivationExecutionDuration"])
def test_nothing_of_the_processor_without_what_it_is_compared_with(name: str) -> None:
    assert advice.processor(ledger({name: None}, **cpu(0.1))) is None


def test_one_cpu_is_not_too_many() -> None:
    job = ledger({"RequestCpus": 1}, CpuUserSeconds=1.0, CpuSystemSeconds=0.0)
    assert advice.processor(job) == "Used 1.0 % of its CPU."


@pytest.mark.parametrize(
    ("peak_bytes", "mib"),
    [
        (1, 128),
        (128 * MIB * 4 // 5, 128),
        (128 * MIB * 4 // 5 + 1, 256),
        (1024 * MIB, 1280),
    ],
)
def test_suggested_request(peak_bytes: int, mib: int) -> None:
    assert advice.suggested_request_mib(peak_bytes) == mib


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        # 409.6 MiB and a quarter more are half of what was asked for.
        (
            {"MemoryPeakBytes": 4096 * MIB // 10},
            "Asked for 1.00 GiB of memory, needed 410 MiB: request_memory = 512 is enough.",
        ),
        ({"MemoryPeakBytes": 4096 * MIB // 10 + 1}, None),
        ({"MemoryPeakBytes": 1024 * MIB}, None),  # page cache, for all that is known
        ({"MemoryPeakBytes": 1024 * MIB, "MemoryAnonShmemPeakBytes": 9216 * MIB // 10}, None),
        (
            {"MemoryPeakBytes": 1024 * MIB, "MemoryAnonShmemPeakBytes": 9216 * MIB // 10 + 1},
            "Asked for 1.00 GiB of memory, needed at least 922 MiB: request_memory = 1280 leaves "
            "room.",
        ),
        ({"MemoryAnonShmemPeakBytes": 1024 * MIB}, None),
        ({"MemoryPeakBytes": 100 * MIB, "OomKills": 1}, None),
        ({"MemoryPeakBytes": 100 * MIB, "Reading": "running"}, None),
    ],
)
def test_memory(figures: dict[str, object], sentence: str | None) -> None:
    assert advice.memory(ledger(**figures)) == sentence


def test_nothing_of_memory_without_the_request() -> None:
    assert advice.memory(ledger({"RequestMemory": None}, MemoryPeakBytes=MIB)) is None


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({}, None),
        ({"OomKills": 0}, None),
        (
            {"OomKills": 1, "OomLevel": "slice", "MemoryPeakBytes": 1024 * MIB},
            "1 process was killed for want of memory: the job asked for too little (1.00 GiB); "
            "try request_memory = 1280.",
        ),
        (
            {"OomKills": 1, "OomLevel": "slice", "SuggestedRequestMemoryMiB": 1536},
            "1 process was killed for want of memory: the job asked for too little (1.00 GiB); "
            "try request_memory = 1536.",
        ),
        (
            {"OomKills": 3, "OomLevel": "job"},
            "3 processes were killed for want of memory, by a limit that the job had set itself.",
        ),
        (
            {"OomKills": 3, "OomLevel": "above"},
            "3 processes were killed for want of memory on the node or above the job, which is "
            "not the job's fault.",
        ),
        (
            {"OomKills": 3},
            "3 processes were killed for want of memory; whose limit it was is not known.",
        ),
    ],
)
def test_killed(figures: dict[str, object], sentence: str | None) -> None:
    assert advice.killed(ledger(**figures)) == sentence


@pytest.mark.parametrize(
    ("throttled", "periods", "told"),
    [(10, 100, True), (9, 100, False), (0, 0, False), (None, 100, False), (10, None, False)],
)
def test_throttled(throttled: int | None, periods: int | None, told: bool) -> None:
    job = ledger(CpuThrottledPeriodsCount=throttled, CpuPeriodsCount=periods)
    sentence = "Its limit of CPU time, cpu_max, held it back 10 % of the time it ran."
    assert advice.throttled(job) == (sentence if told else None)


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({}, None),
        ({"ForksRefusedCount": 0, "ProcessesPeak": 9}, None),
        ({"ForksRefusedCount": 1}, "A new process or thread was refused once, by pids_max."),
        (
            {"ForksRefusedCount": 1234, "ProcessesPeak": 1000},
            "A new process or thread was refused 1,234 times, by pids_max; it had up to 1,000.",
        ),
    ],
)
def test_forks(figures: dict[str, object], sentence: str | None) -> None:
    assert advice.forks(ledger(**figures)) == sentence


@pytest.mark.parametrize(
    ("peak", "told"), [(None, False), (0, False), ((64 << 20) - 1, False), (64 << 20, True)]
)
def test_swapped(peak: int | None, told: bool) -> None:
    sentence = "Up to 64.0 MiB of its memory was in swap, which is slow."
    assert advice.swapped(ledger(SwapPeakBytes=peak)) == (sentence if told else None)


def test_nothing_is_said_of_nothing() -> None:
    assert advice.advice(ledger(Tracking="none")) == []


def test_all_rules_in_order() -> None:
    job = ledger(
        **cpu(0.9), MemoryPeakBytes=MIB, SwapPeakBytes=64 << 20, ForksRefusedCount=1,
        CpuThrottledPeriodsCount=1, CpuPeriodsCount=1, OomKills=1, OomLevel="job",
    )  # fmt: skip
    words = [sentence.split()[0] for sentence in advice.advice(job)]
    assert words == ["Used", "1", "Its", "A", "Up"]
