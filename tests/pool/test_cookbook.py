"""The cookbook's policies with limits, each in force on the pool as the file is, and its job.

What the policy makes of a job is settled when it starts. So each file is in force until its job
runs, and the jobs end while those after them begin. The policies without limits are tried by
ledged alone (tests/kernel/test_cookbook.py).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from tests.cookbook import Recipe, recipes
from tests.pool.condor import Pool
from tests.pool.job import Job
from tests.pool.test_limits import (
    HELD_BY_HOOK,
    PATIENCE_SECONDS,
    POLICY_FILE,
    SLACK,
    put_in_force,
)

MIB = 1 << 20
RECIPES = recipes()
# The one that needs all CPUs there are comes first, while nothing else runs.
NAMES = (
    "04-too-many-threads",
    "05-whole-cores",
    "01-fork-bomb",
    "02-memory-spike",
    "03-disk-hog",
    "10-wrong-node",
)
REFUSED = "10-wrong-node"
# Eight times the default of request_disk is more than the virtual machine has.
MORE = "request_disk = 10M\n"


class Ended(NamedTuple):
    """A job of the page, and what became of it."""

    job: Job
    ad: dict[str, Any]

    def figure(self, name: str) -> float:
        """What the job ad has, as reported."""
        value = self.ad[f"ChirpLedge{name}"]
        assert isinstance(value, (int, float))
        print(f"{name}: {value}")
        return value

    def check_enforced(self, limit: str) -> None:
        assert limit in self.ad["ChirpLedgeEnforced"]


def started(pool: Pool, recipe: Recipe) -> Job:
    """The first job of the section, which runs, or is held, under its policy."""
    said = put_in_force(pool, recipe.path.read_text())
    assert f"the policy is that of {POLICY_FILE}" in said
    job = pool.submit(recipe.jobs[0].text + MORE, name=recipe.name)
    job.wait(pool.release.refused if recipe.name == REFUSED else "executing", PATIENCE_SECONDS)
    return job


@pytest.fixture(scope="module")
def ended(pool: Pool, _installed: None) -> dict[str, Ended]:
    before = pool.get(POLICY_FILE).decode()
    try:
        jobs = {NAMES[0]: started(pool, RECIPES[NAMES[0]])}
        jobs[NAMES[0]].wait("terminated", PATIENCE_SECONDS)
        jobs.update((name, started(pool, RECIPES[name])) for name in NAMES[1:])
    finally:
        put_in_force(pool, before)
    for name, job in jobs.items():
        if name != REFUSED:
            job.wait("terminated", PATIENCE_SECONDS)
    found = {name: Ended(job, job.ad()) for name, job in jobs.items()}
    pool.remove_all_jobs()
    return found


def test_a_fork_bomb(ended: dict[str, Ended]) -> None:
    bomb = ended["01-fork-bomb"]
    bomb.check_enforced("pids.max=500")
    assert bomb.ad["ExitCode"] == 2
    assert b"Cannot fork" in bomb.job.error()
    assert bomb.figure("ForksRefusedCount") >= 1
    assert 400 < bomb.figure("ProcessesPeak") <= 500


def test_a_memory_spike(ended: dict[str, Ended]) -> None:
    job = ended["02-memory-spike"]
    high = 128 * MIB * 9 // 10 // 4096 * 4096
    job.check_enforced(f"memory.high={high}")
    job.check_enforced("memory.swap.max=0")
    assert job.ad["ExitCode"] == 0
    assert job.figure("MemoryHighCount") > 0
    assert job.figure("MemoryPeakBytes") <= 128 * MIB


def test_a_disk_hog(ended: dict[str, Ended]) -> None:
    job = ended["03-disk-hog"]
    job.check_enforced(f"wbps={25 * MIB} ")
    told = re.search(rb"^(\d+) bytes .* copied, ([\d.]+) s", job.job.error(), re.MULTILINE)
    assert told
    written, seconds = int(told[1]), float(told[2])
    print(f"{written / MIB} MiB in {seconds} s")
    assert written == 100 * MIB
    assert seconds * SLACK > written / (25 * MIB)


def test_too_many_threads(ended: dict[str, Ended]) -> None:
    job = ended["04-too-many-threads"]
    job.check_enforced("cpu.max=150000 100000")
    # A host that is busy may give the virtual machine less than the limit.
    used = job.figure("CpuUserSeconds") + job.figure("CpuSystemSeconds")
    assert job.figure("CpuThrottledPeriodsCount") > 0 or used < 5 * 1.5


def test_whole_cores(ended: dict[str, Ended]) -> None:
    job = ended["05-whole-cores"]
    job.check_enforced("cpuset.cpus=")
    assert job.job.output() == b"1\n"


@pytest.mark.since_htcondor(24, 8)
def test_a_wrong_node(ended: dict[str, Ended]) -> None:
    ad = ended[REFUSED].ad
    (line,) = RECIPES[REFUSED].sessions[0].output
    assert ad["HoldReasonCode"] == HELD_BY_HOOK
    assert line.partition("refused: ")[2] in ad["HoldReason"]
