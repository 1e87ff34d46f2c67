"""The last reading of a job, taken when its last process is gone and before its group is."""

from __future__ import annotations

import posix

from ledge.leaf import Leaf
from ledge.monitor import Ending
from ledge.usage import CGROUP2_FILES, Usage, usage_of_cgroup2, usage_of_processes


def settle(leaf: Leaf | None, ending: Ending) -> Usage:
    """Kill what is left in the group, read its figures and remove it. Raises OSError."""
    if leaf is None:
        if ending.cpu_seconds is None:
            return Usage("none")
        return usage_of_processes(ending.cpu_seconds)
    leaf.empty()
    texts = {name: leaf.root.read(name) for name in CGROUP2_FILES}
    usage = usage_of_cgroup2(texts, _stacked_devices(texts["io.stat"] or b""))
    leaf.remove()
    return usage


def _stacked_devices(io_stat: bytes) -> frozenset[bytes]:
    """The devices of io.stat that pass their I/O on to others (/sys/dev/block/…/slaves)."""
    stacked = set()
    lines = io_stat.splitlines()
    for line in lines if len(lines) > 1 else ():
        device = line.partition(b" ")[0]
        try:
            if posix.listdir(b"/sys/dev/block/" + device + b"/slaves"):
                stacked.add(device)
        except OSError:
            pass  # a device that has gone, or never had slaves: it counts by itself
    return frozenset(stacked)
