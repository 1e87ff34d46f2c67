"""The control group of one job: where it is made, what the job sees of it, how it goes away.

    …/slot1_1.slice/            HTCondor's for the job; delegated to its user; limits sit here
        slot1_1.scope/          HTCondor's, before 24.8 ours (ledge/condor_versions.py): the
                                wrapper and its init stay here
        ledge-PID/              ours; the figures are read here; root of the cgroup namespace
            job/                ours; the processes of the job live here

The root is a directory above the one with processes, because a group with processes cannot hand
controllers on: so a glidein can divide its share further (cgroup-v2.rst, "No Internal Process
Constraint"). Its name is new for every start: a group that is used again keeps its old peaks.
"""

from __future__ import annotations

import posix

from ledge.condor_versions import is_scope_of_job, make_room
from ledge.kernel.cgroup2 import Cgroup, mount_point, own_path


class Leaf:
    """A job's own control group; `slice` has it as a child called `name`.

    `slice_is_the_jobs`: nobody's processes but the job's and its wrapper's are in the slice.
    """

    __slots__ = ("slice", "name", "root", "job", "mount_point", "slice_is_the_jobs")

    def __init__(
        self, slice_: Cgroup, name: bytes, mounted: bytes, slice_is_the_jobs: bool = False
    ) -> None:
        self.slice = slice_
        self.name = name
        self.mount_point = mounted
        self.slice_is_the_jobs = slice_is_the_jobs
        self.root = slice_.make(name)
        self._show_memory_limit()
        try:
            self.job = self.root.make(b"job")
        except OSError:
            self.remove()
            raise

    def _show_memory_limit(self) -> None:
        """Have programs see the slice's memory.max, which their cgroup namespace ends below.

        A JVM looks for the lowest limit on the way up to the root that it sees (JDK-8322420), and
        takes a share of that. The slice's is reached first, as the wrapper counts there too.
        """
        try:
            limit = self.slice.read("memory.max")
            if limit not in (None, b"max\n"):
                self.root.write("memory.max", limit)
        except OSError:
            pass  # what the job may have does not depend on it

    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that whoever reads the figures at the end must keep."""
        return self.slice.fd, self.root.fd, self.job.fd

    def enable_controllers(self) -> None:
        """Give the job's groups the controllers that it had in HTCondor's, once `root` is empty."""
        self.root.enable_controllers_of(self.slice)

    def empty(self) -> None:
        """Kill what is left in the group; without a PID namespace of its own, something may be.

        Whoever reads the figures after this reads the last ones. Raises OSError.
        """
        self.root.empty()

    def remove(self) -> bool:
        """Remove the group and what the job made below it; False if something is still in it."""
        return self.slice.remove(self.name)


def find_slice() -> tuple[Cgroup, bytes] | None:
    """The group in which a sibling of our own may be made, and where cgroup2 is mounted.

    None where there is no cgroup2 or the group above ours is not delegated to us: HTCondor
    without BASE_CGROUP, a login session, a container.
    """
    own = own_path(_read("/proc/self/cgroup"))
    mounted = mount_point(_read("/proc/self/mountinfo"))
    if own is None or mounted is None or own == b"/":
        return None
    parent = mounted + own.rpartition(b"/")[0]
    if not posix.access(parent, posix.W_OK) or not posix.access(
        parent + b"/cgroup.procs", posix.W_OK
    ):
        return None
    return Cgroup.open(parent), mounted


def make_leaf(name: bytes) -> Leaf | None:
    """The job's own control group, or None where find_slice() finds no place. Raises OSError."""
    _make_room()
    found = find_slice()
    if found is None:
        return None
    slice_, mounted = found
    return Leaf(slice_, name, mounted, is_scope_of_job(own_path(_read("/proc/self/cgroup")) or b""))


def _make_room() -> None:
    """Where HTCondor made one group for a job, make two. Raises OSError."""
    own = own_path(_read("/proc/self/cgroup"))
    mounted = mount_point(_read("/proc/self/mountinfo"))
    if own is not None and mounted is not None:
        make_room(own, mounted, posix.getuid())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""
