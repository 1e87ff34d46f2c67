"""Readings of a running job's group, on a directory of captured files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.daemon.sampling import Sample
from ledge.kernel.cgroup2 import Cgroup
from tests.unit import captured

NAME = b"ledge-1"


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample(Cgroup.open(os.fsencode(tmp_path)), NAME)
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
