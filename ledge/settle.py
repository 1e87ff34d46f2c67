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
from ledge.usage import Usage, add_logical_io, usage_of_processes
from ledge.usage_of_cgroup2 import (
    CGROUP2_FILES,
    SLICE_FILES,
    add_peak_of_samples,
    usage_of_cgroup2,
)

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.classads import Value

_NO_SAMPLES = "ledged has not launched the job, so nobody took samples"


def measure(launch: Launch, ending: Ending) -> Usage:
    """Kill what is left of the job, read its figures and remove its control group."""
    usage = _measure_groups(launch, ending)
    add_logical_io(usage, ending.logical_io)
    return usage


def _measure_groups(launch: Launch, ending: Ending) -> Usage:
    try:
        if launch.leaf is not None:
            launch.leaf.empty()
            usage = read_usage(launch.leaf.root, launch.leaf.slice_is_the_jobs)
            add_peak_of_samples(usage, None, _NO_SAMPLES)
            return usage
        if launch.leaf_v1 is not None:
            from ledge.usage_of_cgroup1 import CGROUP1_FILES, usage_of_cgroup1

            return usage_of_cgroup1({name: launch.leaf_v1.read(name) for name in CGROUP1_FILES})
    except OSError as error:
        usage = Usage("none")
        usage.miss("all", f"cannot read the control group: {error.strerror}")
        return usage
    finally:
        launch.discard()
    cpu_seconds = ending.cpu_seconds
    return Usage("none") if cpu_seconds is None else usage_of_processes(cpu_seconds)


def read_usage(group: Cgroup, slice_is_the_jobs: bool) -> Usage:
    """What the kernel says of the job's own group by now. Raises OSError.

    The slice above it is read too where nobody else's processes can be in it.
    """
    files = [name for name in CGROUP2_FILES if slice_is_the_jobs or name not in SLICE_FILES]
    texts = {name: group.read(name) for name in files}
    devices = _devices(texts["io.stat"] or b"")
    unread = "the group above is not the job's alone"
    return usage_of_cgroup2(texts, _stacked(devices), _names(devices), unread)


def settle_alone(name: bytes, scratch: bytes | None, ending: Ending) -> bytes:
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
            usage = read_usage(root, slice_is_the_jobs=True)  # ledged has seen to that
            add_peak_of_samples(usage, None, "ledged could not be asked for its samples")
            found[0].remove(name)
    except OSError as error:
        usage.miss("all", f"cannot read the control group: {error.strerror}")
    add_logical_io(usage, ending.logical_io)
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


def report_attributes(chirp_config: bytes | None, attributes: dict[str, Value]) -> None:
    """Report attributes, named without their prefix, through the starter."""
    expressions = {name: expression(value) for name, value in attributes.items()}
    report_expressions(chirp_config, expressions)


def _devices(io_stat: bytes) -> list[bytes]:
    """The devices of io.stat, MAJOR:MINOR, that are looked up: a single one needs no telling."""
    lines = io_stat.splitlines()
    return [line.partition(b" ")[0] for line in lines] if len(lines) > 1 else []


def _stacked(devices: list[bytes]) -> frozenset[bytes]:
    """The devices that pass their I/O on to others (/sys/dev/block/…/slaves)."""
    stacked = set()
    for device in devices:
        try:
            if posix.listdir(b"/sys/dev/block/" + device + b"/slaves"):
                stacked.add(device)
        except OSError:
            pass  # a device that has gone, or never had slaves: it counts by itself
    return frozenset(stacked)


def _names(devices: list[bytes]) -> dict[bytes, str]:
    """The names of devices, as lsblk(8) shows them (/sys/dev/block/… is a link to …/block/sda)."""
    names = {}
    for device in devices:
        try:
            target = posix.readlink(b"/sys/dev/block/" + device)
        except OSError:
            continue  # it has gone, and keeps its number
        names[device] = target.rpartition(b"/")[2].decode("ascii", "replace")
    return names
