"""PIDs of one process in different PID namespaces (pid_namespaces(7), ioctl_ns(2)).

NSpid of /proc/PID/status has one from the namespace of that /proc down to the process's own; which
namespaces those are it does not say, and a job may make some of its own.
"""

from __future__ import annotations

import os
from fcntl import ioctl

from ledge.kernel.proc import read_status

_NS_GET_PARENT = 0xB702  # linux/nsfs.h
_READ = os.O_RDONLY | os.O_CLOEXEC


def pids(proc: int) -> list[int]:
    """A process's PIDs, outermost first, by a descriptor of its directory. Raises OSError."""
    return [int(word) for word in read_status(proc)[b"NSpid"].split()]


def is_in_ours(proc: int) -> bool:
    """Whether a process is in our PID namespace, by its directory in /proc. Raises OSError."""
    theirs, ours = os.stat("ns/pid", dir_fd=proc), os.stat("/proc/self/ns/pid")
    return os.path.samestat(theirs, ours)


def pid_within(proc: int, member: int) -> int | None:
    """The PID of a process in the PID namespace that `member` is in; None if it has none there.

    Both are descriptors of directories in /proc. Raises OSError.
    """
    found, depth = pids(proc), len(pids(member)) - 1
    if len(found) <= depth:
        return None
    theirs = os.stat("ns/pid", dir_fd=member)
    above = _ancestor(proc, len(found) - 1 - depth)
    return found[depth] if os.path.samestat(above, theirs) else None


def _ancestor(proc: int, levels: int) -> os.stat_result:
    """The PID namespace so many levels above that of a process. Raises OSError."""
    fd = os.open("ns/pid", _READ, dir_fd=proc)
    try:
        for _ in range(levels):
            parent = ioctl(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = parent
        return os.fstat(fd)
    finally:
        os.close(fd)
