"""The pools there are: one for each Debian release that has HTCondor, and so a version of it.

    CONDOR_LEDGE_POOL=trixie tests/run tests/pool       all that can be tested there, on that alone

Without the variable the tests of the pool run on the first release, and those that are marked
both_pools on every one.

    CONDOR_LEDGE_MACHINE=vm tests/run tests/pool/test_mpd.py        or =container

A pool is in a virtual machine, unless the test is marked machine("container"), or in both,
machine("container", "vm"). With the variable it is where that says.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ledge.condor_versions import HOOK_LEAVES_GROUP, NESTED_SCRATCH
from tests.pool.errors import PoolError

VARIABLE = "CONDOR_LEDGE_POOL"
MACHINE_VARIABLE = "CONDOR_LEDGE_MACHINE"
CONTAINER = "container"
VM = "vm"


class Release(NamedTuple):
    """What an image of the pool is made of that differs from release to release.

    `script` is the one of debootstrap's that Debian 12 has; its packages have the same names.
    """

    suite: str
    script: str
    htcondor: tuple[int, int]

    @property
    def has_hook(self) -> bool:
        """Whether jobs that are refused are held, by a hook, instead of going back to the queue."""
        return self.htcondor >= HOOK_LEAVES_GROUP

    @property
    def refused(self) -> str:
        """The event of a job that is refused."""
        return "held" if self.has_hook else "evicted"

    @property
    def has_ledge_usage(self) -> bool:
        """Whether LedgeUsage comes into job ads there."""
        return self.htcondor >= NESTED_SCRATCH


RELEASES = (Release("forky", "sid", (25, 14)), Release("trixie", "trixie", (23, 9)))


class Place(NamedTuple):
    """Where a pool runs: its release, and CONTAINER or VM."""

    release: Release
    machine: str

    @property
    def name(self) -> str:
        """As in the names of tests."""
        return self.release.suite if self.machine == VM else f"{self.release.suite}-{self.machine}"


# A container is for breadth, of the first release.
PLACES = (Place(RELEASES[0], CONTAINER), *[Place(release, VM) for release in RELEASES])


def chosen() -> Release | None:
    """The release that the environment names; None if it names none. Raises PoolError."""
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    for release in RELEASES:
        if release.suite == name:
            return release
    known = ", ".join(release.suite for release in RELEASES)
    raise PoolError(f"{VARIABLE}={name}: expected one of {known}")


def chosen_machine() -> str | None:
    """CONTAINER or VM, if the environment names one. Raises PoolError."""
    name = os.environ.get(MACHINE_VARIABLE)
    if name and name not in (CONTAINER, VM):
        raise PoolError(f"{MACHINE_VARIABLE}={name}: expected {CONTAINER} or {VM}")
    return name or None


def chosen_or_first() -> Place:
    """The place for a single pool. Raises PoolError."""
    return Place(chosen() or RELEASES[0], chosen_machine() or VM)
