"""A fork bomb, a memory hog and a disk hog, each beside a well-behaved neighbour.

The neighbour does the same work alone and beside the hog; the quotient is its slow-down. Measured
without condor-ledge, and with a policy that limits the hogs. What HTCondor does by itself is there
both times: a weight of the CPU time, a maximum of memory.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pool.condor import Pool
from tests.pool.job import Submission
from tests.pool.test_limits import PATIENCE_SECONDS, policy

pytestmark = pytest.mark.quiet
HOGS = Path(__file__).with_name("hogs")
CONDUCT = (HOGS / "conduct.py").read_text()
FILES = {name: (HOGS / name).read_text() for name in ("hog.py", "neighbour.py")}
RESOURCES = ("processes", "memory", "disk")

# The hogs' memory is what the machine has but little; with less of it they are done sooner.
TAKEN_HUGE_PAGES = 1000
# Slots are of a size as if the machine had four times its memory: what HTCondor allows to the hog
# is no help.
HOG_MEGABYTES = 4000
NEIGHBOUR_MEGABYTES = 600
# Else there would be nothing to protect the neighbour from.
HARM = 1.3

POLICY = """
version: 1
rules:
- name: hogs
  match: TARGET.TestHog =?= true
  pids_max: 20
  cpu_max: 20%
  memory_high: 256M
  io_write_max: 4MB/s
"""


class SlowDown:
    """How long the neighbour took for its work, in seconds."""

    def __init__(self, alone: float, beside: float) -> None:
        self.alone = alone
        self.beside = beside

    @property
    def factor(self) -> float:
        return self.beside / self.alone

    def __str__(self) -> str:
        return f"{self.alone:.2f} s alone, {self.beside:.2f} s beside it: {self.factor:.2f}"


def job(program: str, resource: str, megabytes: int, more: str = "") -> Submission:
    description = f"""executable = {program}
arguments = {resource}
request_memory = {megabytes}
request_disk = 10M
{more}
"""
    return Submission(description, name=f"{program}-{resource}", files=FILES)


def slow_downs(pool: Pool) -> dict[str, SlowDown]:
    """Of the neighbour by hogs of each kind, one pair after the other."""
    submissions = []
    for resource in RESOURCES:
        submissions.append(job("hog.py", resource, HOG_MEGABYTES, "My.TestHog = true"))
        submissions.append(job("neighbour.py", resource, NEIGHBOUR_MEGABYTES))
    jobs = pool.submit_all(submissions)
    for one in jobs:
        one.wait("executing")
    directories = shlex.join([one.directory for one in jobs])
    answer = pool.root(f"python3 - {directories}", stdin=CONDUCT, timeout=PATIENCE_SECONDS)
    for one in jobs:
        one.wait("terminated")
    return {name: SlowDown(*pair) for name, pair in zip(RESOURCES, json.loads(answer.stdout))}


@contextmanager
def less_memory(pool: Pool) -> Iterator[None]:
    pool.root(f"sysctl -q -w vm.nr_hugepages={TAKEN_HUGE_PAGES}")
    try:
        yield
    finally:
        pool.root("sysctl -q -w vm.nr_hugepages=0")


@pytest.fixture(scope="module")
def measured(pool: Pool, _installed: None) -> Iterator[tuple[dict[str, SlowDown], ...]]:
    """The slow-downs without condor-ledge, and with it."""
    try:
        with less_memory(pool):
            pool.plugin_off()
            without = slow_downs(pool)
            pool.plugin_on()
            with policy(pool, POLICY):
                yield without, slow_downs(pool)
    finally:
        pool.remove_all_jobs()
        pool.plugin_on()


@pytest.mark.parametrize("resource", RESOURCES)
def test_neighbour_of_a_hog(
    resource: str, measured: tuple[dict[str, SlowDown], ...]
) -> None:
    without, with_ledge = (figures[resource] for figures in measured)
    print(f"{resource}: off {without}; on {with_ledge}")
    assert without.factor > HARM
    assert with_ledge.factor < 0.8 * without.factor
