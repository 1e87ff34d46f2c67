"""What is left to do when a job has ended: the last reading, and publishing it.

The reading is taken when the job's last process is gone and before its control group is.
"""

from __future__ import annotations

import posix

from ledge.attributes import REPORTED, isolation_attributes, usage_attributes
from ledge.init import Launch
from ledge.leaf import Leaf
from ledge.monitor import Ending
from ledge.publish.chirp import ChirpError, Starter, publish
from ledge.usage import (
    CGROUP1_FILES,
    CGROUP2_FILES,
    Usage,
    usage_of_cgroup1,
    usage_of_cgroup2,
    usage_of_processes,
)


def measure(launch: Launch, ending: Ending) -> Usage:
    """Kill what is left of the job, read its figures and remove its control group."""
    try:
        if launch.leaf is not None:
            return _measure_cgroup(launch.leaf)
        if launch.leaf_v1 is not None:
            return usage_of_cgroup1({name: launch.leaf_v1.read(name) for name in CGROUP1_FILES})
    except OSError as error:
        usage = Usage("none")
        usage.miss("all", f"cannot read the control group: {error.strerror}")
        return usage
    finally:
        launch.discard()
    cpu_seconds = ending.cpu_seconds
    return Usage("none") if cpu_seconds is None else usage_of_processes(cpu_seconds)


def report_usage(chirp_config: bytes | None, launch: Launch, usage: Usage) -> None:
    """Report a job's usage and isolation through the starter."""
    isolation = isolation_attributes(launch.namespaces)
    report_attributes(chirp_config, {**usage_attributes(usage), **isolation})


def report_attributes(chirp_config: bytes | None, attributes: dict[str, int | float | str]) -> None:
    """Report attributes; a starter that does not take them must not cost the job anything.

    `chirp_config` are the contents of .chirp.config, None where there is none.
    """
    if chirp_config is None:
        return
    try:
        names = {REPORTED + name: value for name, value in attributes.items()}
        publish(Starter(chirp_config), names)
    except ChirpError:
        pass  # the figures stay undefined, which is what they are


def _measure_cgroup(leaf: Leaf) -> Usage:
    leaf.empty()
    texts = {name: leaf.root.read(name) for name in CGROUP2_FILES}
    return usage_of_cgroup2(texts, _stacked_devices(texts["io.stat"] or b""))


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
