"""Limits that this node cannot set, found before there is anything to set them on.

While its hook runs a job can still be put on hold; later the wrapper can only send it back to the
queue. The starter makes the job's slice when the hook is done, below the unit that systemd
delegated to HTCondor: what that has not, no slice will have. What is wrong at the moment alone (no
CPU is free), or shows only when it is written, is told at the launch (ledge/limits/enforcement.py).
"""

from __future__ import annotations

from contextlib import closing

from ledge.daemon.apart import demanded, not_apart
from ledge.daemon.peer import PeerError, Process, mount_point, scratch_file_system
from ledge.daemon.sliceless import unenforced
from ledge.errors import LedgeError
from ledge.kernel.block_devices import disk_of
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.cpu_topology import usable_cpus
from ledge.limits.delegation import delegated_unit, groups_above
from ledge.limits.enforcement import missed_by_io_max
from ledge.limits.remedies import why_absent
from ledge.plan.limits import Limits
from ledge.plan.plan import Plan

_FILES = {
    "pids_max": "pids.max",
    "memory_high_bytes": "memory.high",
    "memory_swap_max_bytes": "memory.swap.max",
    "cpu_max_cores": "cpu.max",
    "exclusive_cpus": "cpuset.cpus",
    "io_read_bytes_per_second": "io.max",
    "io_write_bytes_per_second": "io.max",
    "io_read_operations_per_second": "io.max",
    "io_write_operations_per_second": "io.max",
}


def foreseen(starter: Process, plan: Plan, has_slices: bool, traffic_problem: str) -> str:
    """Why a job will not run here, for the hook that can still hold it; empty if it may.

    `traffic_problem` says why there are no eBPF programs here, if there are none.
    """
    if plan.on_failure != "refuse":
        return ""
    try:
        if has_slices:
            lacking = unenforceable(starter, plan.limits)
            lacking.update(not_apart(plan, traffic_problem))
        else:
            lacking = unenforced(plan).not_enforced
    except (OSError, ValueError, LedgeError):
        return ""  # what cannot be foreseen shows at the launch
    lacking = demanded(plan, lacking)
    return cannot_be_enforced(lacking) if lacking else ""


def cannot_be_enforced(lacking: dict[str, str]) -> str:
    """What a job is told that is refused for limits."""
    reasons = "; ".join([f"{name}: {why}" for name, why in lacking.items()])
    return f"limits that cannot be enforced: {reasons}"


def unenforceable(starter: Process, limits: Limits) -> dict[str, str]:
    """A file or a limit, and why it cannot be set for jobs of this starter's node.

    Raises OSError if the starter has gone.
    """
    files = {_FILES[name] for name in limits.wanted() if name in _FILES}
    reasons = _absent(starter, files) if files else {}
    if "io.max" in files and "io.max" not in reasons:
        reasons.update(_not_at_this_disk(starter, limits))
    count = limits.exclusive_cpus
    cpus = len(usable_cpus()) if count is not None else 0
    if count is not None and count > cpus:
        reasons["cpuset.cpus"] = f"exclusive CPUs wanted {count}, but the node has {cpus}"
    return reasons


def _absent(starter: Process, files: set[str]) -> dict[str, str]:
    try:
        group = Cgroup.open(mount_point() + starter.cgroup())
    except (PeerError, FileNotFoundError):
        return {}
    with closing(group):
        return absent(group, files)


def absent(group: Cgroup, files: set[str]) -> dict[str, str]:
    """Why files are missing from the unit that a group belongs to; none is, if there is no unit."""
    with groups_above(group) as above:
        unit = delegated_unit(above)
        if unit is None:
            return {}
        missing = [file for file in sorted(files) if unit.read(file) is None]
        return {file: "; ".join(filter(None, why_absent(unit, file))) for file in missing}


def _not_at_this_disk(starter: Process, limits: Limits) -> dict[str, str]:
    scratch = scratch_file_system(starter)
    try:
        disk_of(scratch)
    except LedgeError as error:
        return {"io.max": str(error)}
    return missed_by_io_max(scratch, limits)
