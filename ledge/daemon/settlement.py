"""The control groups of jobs that have ended, or that ledged does not know.

A job's user makes what groups it likes below the job's own, and no job's groups are to keep ledged
from the others: what a job divided itself into further than _MOST_GROUPS is left to HTCondor, which
removes the whole slice.
"""

from __future__ import annotations

import os
import time

from ledge.daemon.peer import PeerError
from ledge.kernel.cgroup2 import Cgroup, parse_flat_keyed

_MOST_GROUPS = 500
_PATIENCE_SECONDS = 2.0


class Settlement:
    """A job's group on its way out: whoever is left is killed, then it is read, then removed."""

    def __init__(self, slice_: Cgroup, name: bytes) -> None:
        """Raises OSError."""
        self.name = name
        self.root = Cgroup.open(name, slice_.fd)
        self.slice = Cgroup(os.dup(slice_.fd))
        self.deadline = time.monotonic() + _PATIENCE_SECONDS

    def empty(self) -> bool:
        """Whether nobody is left; whoever is, is killed."""
        if not self.root.populated():
            return True
        self.root.kill()
        return False

    def remove(self) -> bool:
        """Whether it has been removed, or is not for us to remove."""
        try:
            if _descendants(self.root) > _MOST_GROUPS:
                return True
            return self.slice.remove(self.name, patience_seconds=0)
        except (OSError, RecursionError):  # deeper than it looked: its user goes on making groups
            return True

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def close(self) -> None:
        self.root.close()
        self.slice.close()


def _descendants(group: Cgroup) -> int:
    """The number of groups below. Raises OSError."""
    stat = parse_flat_keyed(group.read("cgroup.stat"), "cgroup.stat")
    return stat.get(b"nr_descendants", 0)


def has_populated_leaves(slice_: Cgroup) -> bool:
    """Whether a job lives in a slice. Raises PeerError if it has too many groups, OSError."""
    if _descendants(slice_) > _MOST_GROUPS:
        raise PeerError("a slice with too many control groups in it")
    names = [name for name in os.listdir(slice_.fd) if name.startswith("ledge-")]
    return any(_populated(os.fsencode(name), slice_) for name in names)


def _populated(name: bytes, slice_: Cgroup) -> bool:
    group = Cgroup.open(name, slice_.fd)
    try:
        return group.populated()
    finally:
        group.close()
