"""What is left to do when a job has ended: the last reading, and publishing it.

The reading is taken when the job's last process is gone and before its control group is.
"""

from __future__ import annotations

from ledge.job.init import Launch
from ledge.job.leaf import find_slice
from ledge.job.report import Ending
from ledge.kernel.cgroup2 import Cgroup
from ledge.publish.chirp import expression
from ledge.publish.starter import report_expressions
from ledge.usage.attributes import isolation_attributes, usage_attributes
from ledge.usage.of_cgroup2 import add_peak_of_samples
from ledge.usage.reading import read_usage, read_usage_of_version_1
from ledge.usage.usage import Usage, add_logical_io

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.classads import Value
    from ledge.tracking.start import Tracker

_NO_SAMPLES = "ledged has not launched the job, so nobody took samples"


def measure(launch: Launch, ending: Ending, tracker: Tracker | None = None) -> Usage:
    """Kill what is left of the job, read its figures and remove its control group.

    `tracker` has followed its processes if there was no such group.
    """
    if tracker is not None:
        return measure_processes(ending, tracker)
    usage = _measure_groups(launch)
    add_logical_io(usage, ending.logical_io)
    return usage


def measure_processes(ending: Ending, tracker: Tracker) -> Usage:
    """The figures of a job that had no control group."""
    from ledge.usage.of_processes import usage_of_processes

    usage = usage_of_processes(ending, tracker.stop())
    add_logical_io(usage, ending.logical_io)
    return usage


def _measure_groups(launch: Launch) -> Usage:
    try:
        if launch.leaf is not None:
            launch.leaf.empty()
            usage = read_usage(launch.leaf.root, launch.leaf.slice_is_the_jobs)
            add_peak_of_samples(usage, None, _NO_SAMPLES)
            return usage
        if launch.leaf_v1 is not None:
            launch.leaf_v1.empty()
            return read_usage_of_version_1(launch.leaf_v1)
    except OSError as error:
        usage = Usage("none")
        usage.miss("all", f"cannot read the control group: {error.strerror}")
        return usage
    finally:
        launch.discard()
    return Usage("none")


def settle_alone(
    name: bytes, scratch: bytes | None, ending: Ending, tracker: Tracker | None = None
) -> bytes:
    """What ledged would answer on settle, where it does not: the wrapper's own reading.

    `name` is the job's control group in its slice; empty where there is none, and `tracker` has
    followed the processes. With `scratch` the figures are those of all starts of a
    self-checkpointing job.
    """
    if name:
        usage = _read_alone(name)
        add_logical_io(usage, ending.logical_io)
    elif tracker is not None:
        usage = measure_processes(ending, tracker)
    else:
        usage = Usage("none")
    if scratch is not None:
        from ledge.wrapper.checkpoints import add_earlier_starts

        add_earlier_starts(usage, scratch)
    lines = [f"{name} = {expression(value)}\n" for name, value in usage_attributes(usage).items()]
    return "".join(lines).encode("utf-8", "replace")


def _read_alone(name: bytes) -> Usage:
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
    return usage


def report_usage(
    chirp_config: bytes | None, launch: Launch, usage: Usage, reason: str = ""
) -> None:
    """Report a job's usage and isolation, and why that is not ledged's, through the starter."""
    isolation = isolation_attributes(launch.namespaces, reason, launch.mounts)
    report_attributes(chirp_config, {**usage_attributes(usage), **isolation})


def report_attributes(chirp_config: bytes | None, attributes: dict[str, Value]) -> None:
    """Report attributes, named without their prefix, through the starter."""
    expressions = {name: expression(value) for name, value in attributes.items()}
    report_expressions(chirp_config, expressions)
