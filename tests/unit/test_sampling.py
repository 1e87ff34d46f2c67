"""Readings of a running job's group, on a directory of captured files."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledge.daemon.sampling import INTERVAL_SECONDS, Sample, Sampler
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance
from ledge.log import Log
from ledge.usage.of_cgroup2 import SAMPLED_FILES
from ledge.usage.usage import Usage
from tests.unit import captured

NAME = b"ledge-1"


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample(Cgroup.open(os.fsencode(tmp_path)), NAME, Allowance(100))
    yield sample
    sample.close()
    sample.slice.close()


def write(tmp_path: Path, peak: bytes) -> Path:
    group = tmp_path / NAME.decode()
    group.mkdir(exist_ok=True)
    (group / "cpu.stat").write_bytes(captured.CPU_STAT)
    (group / "memory.peak").write_bytes(peak)
    return group


def test_no_reading_before_there_is_a_group(sample: Sample) -> None:
    sample.take()
    assert (sample.taken, sample.usage()) == (None, None)


def test_each_reading_is_of_its_moment(sample: Sample, tmp_path: Path) -> None:
    for peak in (1000, 2000):
        write(tmp_path, b"%d\n" % peak)
        sample.take()
        usage = sample.usage()
        assert usage is not None
        assert usage.figures["MemoryPeakBytes"] == peak
        assert usage.figures["CpuUserSeconds"] == pytest.approx(38.557845)


def test_what_has_no_file_is_missing_and_not_zero(sample: Sample, tmp_path: Path) -> None:
    write(tmp_path, b"1\n")
    sample.take()
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["BlockWriteBytes"] is None


def test_the_last_reading_stays_when_the_group_has_gone(sample: Sample, tmp_path: Path) -> None:
    group = write(tmp_path, b"1000\n")
    sample.take()
    taken = sample.taken
    sample.close()
    shutil.rmtree(group)
    sample.take()
    assert sample.taken == taken
    assert sample.usage() is not None


def test_a_group_that_goes_away_between_two_files_leaves_the_last_reading(
    sample: Sample, tmp_path: Path
) -> None:
    group = write(tmp_path, b"1000\n")
    sample.take()
    taken = sample.taken
    sample.close()
    (group / "cpu.stat").unlink()
    sample.take()
    assert sample.taken == taken


def stat(anon: int, shmem: int) -> bytes:
    return b"anon %d\nfile 5\nshmem %d\n" % (anon, shmem)


def test_the_highest_anon_and_shmem_of_all_readings(sample: Sample, tmp_path: Path) -> None:
    group = write(tmp_path, b"1\n")
    for anon, shmem in ((10, 1), (30, 5), (20, 10), (34, 0)):
        (group / "memory.stat").write_bytes(stat(anon, shmem))
        sample.take()
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["MemoryAnonShmemPeakBytes"] == 35
    assert usage.figures["MemoryAnonAtPeakBytes"] == 30
    assert list(usage.sampled) == ["highest of 4 readings, one every 5 s"]


def test_no_reading_no_peak(sample: Sample) -> None:
    usage = Usage("cgroup")
    sample.add_peak(usage)
    assert usage.figures["MemoryAnonShmemPeakBytes"] is None
    assert list(usage.unmeasured) == ["no reading in the first 5 s"]


def test_without_memory_stat_no_peak(sample: Sample, tmp_path: Path) -> None:
    write(tmp_path, b"1\n")
    sample.take()
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["MemoryAnonShmemPeakBytes"] is None
    assert not usage.sampled


def test_what_is_read_at_the_end_alone_is_missing_before(sample: Sample, tmp_path: Path) -> None:
    group = write(tmp_path, b"1\n")
    (group / "cpu.pressure").write_bytes(captured.CPU_PRESSURE)
    (tmp_path / "cpu.stat").write_bytes(captured.CPU_STAT_OF_A_LIMITED_SLICE)
    sample.take()
    before = sample.usage()
    assert before is not None
    assert before.figures["PressureCpuSomeSeconds"] is None
    assert "PressureCpuSomeSeconds" in before.unmeasured["not read while the job runs"]
    sample.take_last()
    after = sample.usage()
    assert after is not None
    assert after.figures["PressureCpuSomeSeconds"] == pytest.approx(12.305816)
    assert after.figures["CpuThrottledSeconds"] == pytest.approx(3.520174)


def test_each_reading_of_a_dying_job_is_of_all(sample: Sample, tmp_path: Path) -> None:
    group = write(tmp_path, b"1\n")
    (group / "cpu.pressure").write_bytes(captured.CPU_PRESSURE)
    sample.dying = True
    sample.take()
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["PressureCpuSomeSeconds"] == pytest.approx(12.305816)


def test_what_was_removed_while_it_was_read_keeps_what_there_was(
    sample: Sample, tmp_path: Path
) -> None:
    """Without cgroup.events, the group has gone; cpu.stat was read before."""
    write(tmp_path, b"1\n")
    sample.take_last()
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["CpuUserSeconds"] == pytest.approx(38.557845)
    reason = "not read before the control group was removed"
    assert "PressureCpuSomeSeconds" in usage.unmeasured[reason]


def test_now(sample: Sample, tmp_path: Path) -> None:
    group = write(tmp_path, b"1\n")
    (group / "memory.stat").write_bytes(captured.MEMORY_STAT)
    (group / "pids.current").write_bytes(b"3\n")
    sample.take()
    now = sample.usage_of_now()
    assert now.figures["ProcessesCount"] == 3
    assert now.figures["MemoryAnonBytes"] == 19009536
    assert now.figures["MemoryCurrentBytes"] is None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_stay_open_as_far_as_they_may_and_are_read_all_the_same(tmp_path: Path) -> None:
    slice_ = Cgroup.open(os.fsencode(tmp_path))
    write(tmp_path, b"1000\n")
    allowance = Allowance(len(SAMPLED_FILES))
    begin = descriptors()
    samples = [Sample(slice_, NAME, allowance) for _ in range(3)]
    for peak in (1000, 2000):
        write(tmp_path, b"%d\n" % peak)
        for sample in samples:
            sample.take()
            usage = sample.usage()
            assert usage is not None
            assert usage.figures["MemoryPeakBytes"] == peak
    assert descriptors() == begin + 2  # the two files that there are, once
    for sample in samples:
        sample.close()
    assert allowance.left == len(SAMPLED_FILES)
    slice_.close()


def test_no_descriptor_left_is_no_failure(tmp_path: Path) -> None:
    """Enough for the group and one file, and not for two files that stay open."""
    slice_ = Cgroup.open(os.fsencode(tmp_path))
    write(tmp_path, b"1000\n")
    sample = Sample(slice_, NAME, Allowance(100))
    before, begin = resource.getrlimit(resource.RLIMIT_NOFILE), descriptors()
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fill = [os.dup(slice_.fd) for _ in range(highest + 1 - descriptors())]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max([highest, *fill]) + 3, before[1]))
    try:
        sample.take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in fill:
            os.close(fd)
    assert descriptors() == begin  # none stayed open: there were not enough
    usage = sample.usage()
    assert usage is not None
    assert usage.figures["MemoryPeakBytes"] == 1000
    sample.take()
    assert descriptors() == begin + 2
    sample.close()
    slice_.close()


class _Loop:
    """A server's timers, wound by hand."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.timers.append((seconds, action))


def test_many_jobs_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = Cgroup.open(os.fsencode(tmp_path))
    write(tmp_path, b"1000\n")
    loop, sampler = _Loop(), Sampler(Log(None))
    sampler.attach(loop)  # type: ignore[arg-type]
    samples = [sampler.begin(slice_, NAME) for _ in range(70)]
    assert [seconds for seconds, _ in loop.timers] == [INTERVAL_SECONDS]
    now = 1000.0

    def tick() -> float:
        nonlocal now
        now += 0.00002
        return now

    monkeypatch.setattr(time, "monotonic", tick)
    loop.timers.pop()[1]()
    rounds = [sum(sample.readings for sample in samples)]
    sampler.end(samples[69])  # its job ends between two portions
    while [seconds for seconds, _ in loop.timers][-1] < 1:
        loop.timers.pop()[1]()
        rounds.append(sum(sample.readings for sample in samples))
    assert rounds == [26, 52, 69]
    assert [seconds for seconds, _ in loop.timers] == [INTERVAL_SECONDS]
    assert samples[69].taken is None
    for sample in samples[:69]:
        sampler.end(sample)
    slice_.close()
