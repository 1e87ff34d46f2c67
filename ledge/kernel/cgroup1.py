"""Control groups of version 1: one tree for each controller.

Source: Documentation/admin-guide/cgroup-v1/ (cpuacct, memory, blkio-controller, pids). Groups are
opened, read and removed as those of version 2 are (ledge/kernel/cgroup2.py).
"""

from __future__ import annotations

from ledge.kernel.cgroup2 import unescaped


def own_paths(proc_self_cgroup: bytes) -> dict[bytes, bytes]:
    """One's own path by controller, from the text of /proc/self/cgroup (cgroups(7))."""
    paths = {}
    for line in proc_self_cgroup.splitlines():
        _, controllers, path = line.split(b":", 2)
        for controller in controllers.split(b","):
            if controller and not controller.startswith(b"name="):
                paths[controller] = path
    return paths


def mount_points(mountinfo: bytes) -> dict[bytes, tuple[bytes, bytes]]:
    """The root and the mount point of each controller's tree, from /proc/self/mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        if after.startswith(b"cgroup "):
            fields = before.split(b" ")
            for option in after.split(b" ")[2].split(b","):
                found[option] = (unescaped(fields[3]), unescaped(fields[4]))
    return found


def parse_blkio(text: bytes, name: str) -> dict[bytes, dict[bytes, int]]:
    """The numbers of each device by kind: lines "MAJOR:MINOR Read NUMBER", then a total.

    Raises ValueError.
    """
    found: dict[bytes, dict[bytes, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            if not words[2].isdigit():
                raise ValueError(f"{name}: expected a number, not {words[2]!r:.80}")
            found.setdefault(words[0], {})[words[1]] = int(words[2])
    return found
