"""What is left to do when a job has ended: the last reading, and publishing it.

The reading is taken when the job's last process is gone and before its control group is.
"""

from __future__ import annotations

import posix

from ledge.attributes import isolation_attributes, usage_attributes
from ledge.init import Launch
from ledge.kernel.cgroup2 import Cgroup
from ledge.leaf import find_slice
from ledge.monitor import Ending
from ledge.publish.chirp import expression
from ledge.publish.starter import report_expressions
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
            launch.leaf.empty()
            return read_usage(launch.leaf.root)
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


def read_usage(group: Cgroup) -> Usage:
    """What the kernel says of the group by now. Raises OSError."""
    texts = {name: group.read(name) for name in CGROUP2_FILES}
    return usage_of_cgroup2(texts, _stacked_devices(texts["io.stat"] or b""))


def settle_alone(name: bytes, scratch: bytes | None) -> bytes:
    """What ledged would answer on settle, where it does not: the wrapper's own reading.

    `name` is the job's control group in its slice. With `scratch` the figures are those of all
    starts of a self-checkpointing job.
    """
    usage = Usage("none")
    try:
        found = find_slice()
        if found is not None:
            root = Cgroup.open(name, found[0].fd)
            root.empty()
            usage = read_usage(root)
            found[0].remove(name)
    except OSError as error:
        usage.miss("all", f"cannot read the control group: {error.strerror}")
    if scratch is not None:
        from ledge.checkpoints import add_earlier_starts

        add_earlier_starts(usage, scratch)
    lines = [f"{name} = {expression(value)}\n" for name, value in usage_attributes(usage).items()]
    return "".join(lines).encode("utf-8", "replace")


def report_usage(
    chirp_config: bytes | None, launch: Launch, usage: Usage, reason: str = ""
) -> None:
    """Report a job's usage and isolation, and why that is not ledged's, through the starter."""
    isolation = isolation_attributes(launch.namespaces, reason)
    report_attributes(chirp_config, {**usage_attributes(usage), **isolation})


def report_attributes(chirp_config: bytes | None, attributes: dict[str, int | float | str]) -> None:
    """Report attributes, named without their prefix, through the starter."""
    expressions = {name: expression(value) for name, value in attributes.items()}
    report_expressions(chirp_config, expressions)


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
