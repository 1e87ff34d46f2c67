"""Fixtures: the attacker in a job's slice. Whatever a test does, nothing may be left of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.threats.attacker import Attacker, assert_serving, groups, nobody, wait_until


@pytest.fixture
def ledged(_ledged: Ledged) -> Ledged:
    """By a name that a test may use as well."""
    return _ledged


@pytest.fixture
def slice_() -> Iterator[Slice]:
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", nobody().uid)
    yield slice_
    try:
        wait_until(lambda: groups(slice_) == [], "groups are left")
    finally:
        slice_.remove()


@pytest.fixture
def attacker(
    installed: Path, execute: Path, ledged: Ledged, slice_: Slice
) -> Iterator[Attacker]:
    """In a job's slice, as HTCondor makes it; afterwards ledged serves, and nothing is left."""
    attacker = Attacker(installed / "job_wrapper", execute, nobody(), slice_)
    mounted = Path("/proc/self/mountinfo").read_text()
    time.sleep(0.02)  # ledged may be about to see that the test before has gone
    before = descriptors(ledged)
    yield attacker
    attacker.close()
    wait_until(lambda: no_more(descriptors(ledged), before), "descriptors are left")
    assert Path("/proc/self/mountinfo").read_text() == mounted
    assert_serving()


def descriptors(ledged: Ledged) -> tuple[int, int]:
    """How many descriptors ledged and its launcher have, reservations apart."""
    (launcher,) = ledged.children("ledge_launcher")
    paths = list(Path(f"/proc/{ledged.process.pid}/fd").iterdir())
    counted = [path for path in paths if not is_of_ours(path)]
    return len(counted), len(os.listdir(f"/proc/{launcher}/fd"))


def no_more(found: tuple[int, int], before: tuple[int, int]) -> bool:
    return found[0] <= before[0] and found[1] <= before[1]


def is_of_ours(path: Path) -> bool:
    """Whether a descriptor of ledged's is of this process, the starter of all jobs, or is gone."""
    try:
        info = Path(str(path).replace("/fd/", "/fdinfo/")).read_text()
        return os.readlink(path) == f"/proc/{os.getpid()}" or f"Pid:\t{os.getpid()}\n" in info
    except OSError:
        return True
