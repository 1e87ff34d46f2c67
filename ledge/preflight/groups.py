"""A control group where HTCondor makes those of its jobs, to try limits and figures in.

    …/condor.service/                   what systemd delegated
        htcondor/                       BASE_CGROUP, once there was a job
            ledge-preflight-NS-PID/     made here, in the unit itself if there was none
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from ledge.kernel.block_devices import FileSystem
from ledge.kernel.cgroup2 import Cgroup, mount_point, own_path
from ledge.limits.delegation import delegated_unit, groups_above, has_controller, path
from ledge.limits.enforcement import enforce
from ledge.limits.remedies import remedy, why_absent
from ledge.plan.limits import Limits
from ledge.preflight.attempt import PreflightError

UNIFIED = (
    "systemd.unified_cgroup_hierarchy=1 on the kernel's command line (grubby --update-kernel=ALL "
    "--args=systemd.unified_cgroup_hierarchy=1) and a reboot"
)
DELEGATE = (
    "systemctl edit condor.service, there [Service], Delegate=yes and DelegateSubgroup=leaf; then "
    "systemctl restart condor.service"
)
_CONTROLLERS = ("cpu", "io", "memory", "pids")

# What the machine attribute calls a kind of figures, and the file without which there are none.
FIGURES = {
    "cpu": "cpu.stat",
    "memory": "memory.stat",
    "memory_peak": "memory.peak",
    "swap": "memory.swap.current",
    "block": "io.stat",
    "processes": "pids.current",
    "pressure": "cpu.pressure",
}


def tree() -> str:
    """Where cgroup2 is mounted. Raises PreflightError."""
    with open("/proc/self/mountinfo", "rb") as file:
        mounted = mount_point(file.read())
    if mounted is None:
        raise PreflightError("control groups are of version 1: cgroup2 is not mounted", UNIFIED)
    with closing(Cgroup.open(mounted)) as root:
        there = (root.read("cgroup.controllers") or b"").split()
    missing = [name for name in _CONTROLLERS if name.encode() not in there]
    if missing:
        raise PreflightError(f"cgroup2 has no controllers {', '.join(missing)}", UNIFIED)
    return os.fsdecode(mounted)


def htcondors_group() -> str:
    """The group of this node's condor_master (/proc/PID/cgroup). Raises PreflightError."""
    with suppress(OSError), open(f"/proc/{htcondors_master()}/cgroup", "rb") as groups:
        return os.fsdecode(own_path(groups.read()) or b"/")
    raise _not_running()


def htcondors_master() -> int:
    """The PID of this node's condor_master. Raises PreflightError."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as comm:
            # A user may have an HTCondor of his own, or a process of that name.
            if comm.read() == b"condor_master\n" and _is_root_s(pid):
                return int(pid)
    raise _not_running()


def _not_running() -> PreflightError:
    return PreflightError("condor_master is not running", "systemctl start condor.service")


def _is_root_s(pid: str) -> bool:
    """Whether the real user is root; the effective one HTCondor changes. Raises OSError."""
    with open(f"/proc/{pid}/status", "rb") as status:
        return b"\nUid:\t0\t" in status.read()


@contextmanager
def jobs_group(base: str) -> Iterator[Cgroup]:
    """A group beside the jobs' own, removed afterwards. Raises PreflightError, OSError.

    `base` is BASE_CGROUP.
    """
    mounted = tree()
    if not base:
        problem = "BASE_CGROUP is empty: HTCondor makes no control groups for jobs"
        raise PreflightError(problem, "BASE_CGROUP = htcondor")
    group = Cgroup.open(os.fsencode(mounted + htcondors_group()))
    with closing(group), groups_above(group) as above:
        unit = delegated_unit([group, *above])
        if unit is None:
            problem = f"systemd has delegated no group of {path(group)} to HTCondor"
            raise PreflightError(problem, DELEGATE)
        with _made(unit, base) as made:
            yield made


@contextmanager
def _made(unit: Cgroup, base: str) -> Iterator[Cgroup]:
    _hand_on(unit)
    parent = _below(unit, base) or Cgroup.open(b".", unit.fd)
    name = _prefix() + b"%d" % os.getpid()
    with closing(parent):
        _clear(parent)
        try:
            made = parent.make(name)
        except OSError as error:
            problem = f"no group can be made in {path(parent)}: {error.strerror}"
            raise PreflightError(problem, remedy(error)) from None
        try:
            with closing(made):
                yield made
        finally:
            parent.remove(name)


def _clear(parent: Cgroup) -> None:
    """Remove what is left of those who were killed while they tried."""
    prefix = _prefix()
    for name in map(os.fsencode, os.listdir(parent.fd)):
        pid = os.fsdecode(name[len(prefix) :])
        if name.startswith(prefix) and not os.path.exists(f"/proc/{pid}"):
            parent.remove(name)


def _prefix() -> bytes:
    """Of those whose PIDs are ours: HTCondor may have a PID namespace of its own."""
    return b"ledge-preflight-%d-" % os.stat("/proc/self/ns/pid").st_ino


def _hand_on(unit: Cgroup) -> None:
    """Have the unit's controllers on for the groups in it, as HTCondor does for a job.

    Raises PreflightError.
    """
    for name in _CONTROLLERS:
        if not has_controller(unit, "cgroup.subtree_control", name):
            if not has_controller(unit, "cgroup.controllers", name):
                raise PreflightError(f"{path(unit)} has no {name} controller", DELEGATE)
            try:
                unit.write("cgroup.subtree_control", b"+" + name.encode())
            except OSError as error:
                problem = f"+{name} in {path(unit)} was refused: {error.strerror}"
                raise PreflightError(problem, remedy(error)) from None


def _below(unit: Cgroup, base: str) -> Cgroup | None:
    with suppress(OSError):
        return Cgroup.open(os.fsencode(base), unit.fd)
    return None


def limits_of(group: Cgroup, scratch: FileSystem | None) -> tuple[list[str], dict[str, str]]:
    """The limits that were set on the group, by their names in a policy, and why not the others.

    `scratch` is the file system of the directory that jobs write to.
    """
    limits = Limits()
    limits.pids_max = 1000
    limits.memory_high_bytes = limits.memory_swap_max_bytes = 1 << 30
    limits.cpu_max_cores = 1.0
    limits.io_read_bytes_per_second = limits.io_write_bytes_per_second = 1 << 30
    receipt = enforce(group, limits, scratch)
    can = [file.replace(".", "_") for file in receipt.enforced if "." in file]
    if has_controller(group, "cgroup.controllers", "cpuset") or _cpuset_can_be_had(group):
        can.append("exclusive_cpus")
    return can, receipt.not_enforced


def _cpuset_can_be_had(group: Cgroup) -> bool:
    """Not switched on here: with cpuset on, the scheduler pays for it."""
    with groups_above(group) as above:
        unit = delegated_unit(above)
        return unit is not None and has_controller(unit, "cgroup.controllers", "cpuset")


def figures_of(group: Cgroup) -> tuple[list[str], dict[str, str]]:
    """The kinds of figures that the kernel has of the group, and why not the others."""
    can, lacking = [], {}
    for kind, file in FIGURES.items():
        if group.read(file) is not None:
            can.append(kind)
        else:
            lacking[kind] = "; ".join(filter(None, why_absent(group, file)))
    return can, lacking
