"""The control groups of one job where the node has version 1: one below our own in each tree.

A process is moved there by itself before it becomes the job, since version 1 knows no birth into
a group. What the groups are made in is our own group, so nothing of the node's is touched.
"""

from __future__ import annotations

import _signal
import posix
from time import monotonic, sleep

from ledge.kernel.cgroup1 import mount_points, own_paths
from ledge.kernel.cgroup2 import Cgroup

CONTROLLERS = (b"cpuacct", b"memory", b"blkio", b"pids", b"freezer")

_PAUSE_SECONDS = 0.005


class LeafV1:
    """A job's control groups by controller; what could not be made is missing."""

    __slots__ = ("parents", "groups", "name")

    def __init__(self, parents: dict[bytes, Cgroup]) -> None:
        self.name = b"ledge-%d" % posix.getpid()
        self.parents = {}
        self.groups = {}
        for controller, parent in parents.items():
            try:
                self.groups[controller] = parent.make(self.name)
            except OSError:
                parent.close()
            else:
                self.parents[controller] = parent

    def descriptors(self) -> tuple[int, ...]:
        """The descriptors of the groups and of their parents."""
        groups = (*self.groups.values(), *self.parents.values())
        return tuple(group.fd for group in groups)

    def enter(self) -> None:
        """Move the calling process into the groups. Raises OSError."""
        for group in self.groups.values():
            group.write("cgroup.procs", b"0")

    def read(self, file: str) -> bytes | None:
        """The text of a control file, whose name begins with its controller's."""
        group = self.groups.get(file.partition(".")[0].encode())
        return group.read(file) if group else None

    def empty(self, patience_seconds: float = 2.0) -> None:
        """Kill whoever is left, and wait until nobody is. Raises OSError.

        In a frozen group nobody ends or forks, so the PIDs that are read there are theirs still.
        """
        freezer = self.groups.get(b"freezer")
        deadline = monotonic() + patience_seconds
        while freezer is not None and freezer.read("cgroup.procs") and monotonic() < deadline:
            freezer.write("freezer.state", b"FROZEN")
            if (freezer.read("freezer.state") or b"").strip() == b"FROZEN":
                for word in (freezer.read("cgroup.procs") or b"").split():
                    posix.kill(int(word), _signal.SIGKILL)
            freezer.write("freezer.state", b"THAWED")
            sleep(_PAUSE_SECONDS)

    def remove(self) -> bool:
        """Remove the groups; False if one is still in use."""
        removed = [parent.remove(self.name) for parent in self.parents.values()]
        return all(removed)


def make_leaf_v1() -> LeafV1 | None:
    """The job's control groups, or None where version 1 accounts for nothing here."""
    with open("/proc/self/cgroup", "rb") as cgroup, open("/proc/self/mountinfo", "rb") as mounts:
        paths, mounted = own_paths(cgroup.read()), mount_points(mounts.read())
    parents = {}
    for controller in CONTROLLERS:
        if controller in paths and controller in mounted:
            root, point = mounted[controller]
            path = paths[controller]
            below = path[len(root) :] if path.startswith(root) else path
            try:
                parents[controller] = Cgroup.open(point + b"/" + below.lstrip(b"/"))
            except OSError:
                continue
    leaf = LeafV1(parents)
    return leaf if leaf.groups else None
