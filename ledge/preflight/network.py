"""The eBPF program that counts traffic, loaded and attached to a group that is there for it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ledge.kernel.cgroup2 import Cgroup
from ledge.network.counters import PIN_DIRECTORY, NetworkCounters, NetworkError, remove


def attempt_counting(group: Cgroup, pins: str = PIN_DIRECTORY) -> NetworkError | None:
    """Why the traffic of the group cannot be counted; None if it can."""
    namespace = os.stat("/proc/self/ns/pid").st_ino  # that the number is of
    prefix = f"{pins}-preflight-{namespace}-"
    directory = f"{prefix}{os.getpid()}"
    _remove_left(prefix)
    try:
        counters = NetworkCounters.open([], directory)
        try:
            remove(directory)  # the name alone: whoever is killed from here on leaves nothing
            counters.attach(group.fd)
            counted = counters.read(os.fstat(group.fd).st_ino)
        finally:
            counters.close()
    except NetworkError as error:
        return error
    if counted is None or counted.received is None or counted.sent is None:
        return NetworkError("the kernel has no counters of a group that a program is attached to")
    return None


def _remove_left(prefix: str) -> None:
    """What another one left that was killed before it could remove the name.

    Everybody may make something there (its root has mode 1777), but nobody a directory of root's.
    """
    parent, start = os.path.split(prefix)
    with suppress(OSError, NetworkError):
        for name in os.listdir(parent):
            number = name[len(start) :]
            if not name.startswith(start) or os.path.exists(f"/proc/{number}"):
                continue
            path = os.path.join(parent, name)
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                remove(path)
