"""Setting the limits of a job on its slice, and a receipt of what holds.

    …/condor.service/           systemd's unit, delegated; HTCondor's own daemons live in leaf/
        htcondor/               BASE_CGROUP
            slot1_1.slice/      the job's: the limits that are written here only root can write

A limit is only ever made tighter: a value that is as tight already, HTCondor's or an admin's, stays
and is what holds. So the job is at no moment without a limit that it had. Every value is read back
and compared as the kernel rounds it. Above the slice nothing is written, but "+cpuset" to
cgroup.subtree_control, from the unit's own group down to the slice's parent.

cpu.max holds for every period of 100 ms; cpu.max.burst stays at 0, as HTCondor leaves it.

Exclusive CPUs: the job's cpuset.cpus are its own, and every other slice's are narrowed to the
rest. The kernel would do that by itself for a partition (cpuset.cpus.partition), but a group can
be one only if all above it, up to the root, hand it the CPUs in their cpuset.cpus.exclusive, and
those groups are not ours ("root invalid", Linux 7.2). The slices themselves are the only record: a
slice that has cpuset.mems of its own holds its cpuset.cpus alone, one with only cpuset.cpus was
narrowed. So nothing is lost when the daemon dies. What is promised is that no other job on which
enforce() was called runs there. Kernel threads, daemons and logins may (AllowedCPUs= of their
units keeps them off), and a job that has just begun, until its own enforce(); a CPU that goes
offline, or out of AllowedCPUs= of condor.service, is nobody's: a job that has no other runs on all.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from contextlib import closing
from errno import ENODEV, ENOENT, ENOSPC
from functools import partial
from math import inf
from pathlib import Path
from typing import Callable, Optional, TypeVar

from ledge.condor_versions import is_jobs_group
from ledge.errors import LedgeError, NotEnforced
from ledge.kernel.block_devices import (
    Disk,
    FileSystem,
    NoDiskError,
    disk_of,
    disks_below,
    disks_with_io_cost,
    weight_file,
)
from ledge.kernel.cgroup2 import Cgroup, parse_nested_keyed, parse_single
from ledge.kernel.cpu_topology import cpu_list, parse_cpu_list, read_topology, usable_cpus
from ledge.limits.cpusets import choose, memory_nodes
from ledge.limits.delegation import enable_cpuset, groups_above, has_controller, parent, path
from ledge.limits.remedies import remedy, why_absent
from ledge.plan.limits import Limits

_PERIOD_USEC = 100_000
_LARGEST_BFQ_WEIGHT = 1000  # BFQ_MAX_WEIGHT in block/bfq-iosched.h
_SYSFS = Path("/sys")
_Value = TypeVar("_Value")
Scratch = Optional[FileSystem]

_IO_MAX_KEYS = {
    "rbps": "io_read_bytes_per_second",
    "wbps": "io_write_bytes_per_second",
    "riops": "io_read_operations_per_second",
    "wiops": "io_write_operations_per_second",
}


class Receipt:
    """What became of the limits of one job.

    enforced        the kernel's file and what it reads now
    not_enforced    a file or a limit, and why, with a remedy for the admin
    remarks         a file, and what to know of a limit that holds
    """

    __slots__ = ("enforced", "not_enforced", "remarks")

    def __init__(self) -> None:
        self.enforced: dict[str, str] = {}
        self.not_enforced: dict[str, str] = {}
        self.remarks: dict[str, str] = {}


def enforce(slice_: Cgroup, limits: Limits, scratch: Scratch, sysfs: Path = _SYSFS) -> Receipt:
    """Set every limit that is not None; whatever fails is in the receipt, nothing is raised.

    `scratch` is the file system of the job's scratch directory. Other slices are read and written
    on the way, so one process alone may do this at a time.
    """
    return _Enforcement(slice_, limits, scratch, sysfs).carry_out()


def missed_by_io_max(scratch: FileSystem, limits: Limits) -> dict[str, str]:
    """The limits of writing that io.max will not hold on this file system, and why."""
    names = ("io_write_bytes_per_second", "io_write_operations_per_second")
    reason = (
        f"{scratch.type} does not tell the kernel who wrote a page, so io.max holds for direct "
        "writes only; ext4 or xfs for EXECUTE"
    )
    wanted = limits.wanted() if not scratch.knows_who_wrote else ()
    return {name: reason for name in names if name in wanted}


def give_back(slice_: Cgroup, sysfs: Path = _SYSFS) -> dict[str, str]:
    """Share the exclusive CPUs of a job that has ended, or whose slice has gone, among the others.

    Returns what share_out() returns.
    """
    try:
        if slice_.read("cgroup.type") is not None:
            if not (slice_.read("cpuset.mems") or b"").strip():
                return {}
            slice_.write("cpuset.mems", b"\n")
        with closing(parent(slice_)) as jobs:
            return share_out(jobs, sysfs)
    except OSError as error:
        return {"": _line(error)}


def share_out(jobs: Cgroup, sysfs: Path = _SYSFS) -> dict[str, str]:
    """Keep every slice below `jobs` off the CPUs that others hold, and off no more than those.

    Returns, by slice, why one is not kept off; by "", why none is. Also for the daemon's start.
    """
    failures = {}
    try:
        held = exclusive_cpus(jobs)
        shared = sorted(_slices(jobs) - held.keys())
        rest = _rest(jobs, held, sysfs) if shared else frozenset()
        for name in shared:
            try:
                _keep_to(jobs, name, rest)
            except (OSError, ValueError) as error:
                failures[name] = _line(error)
    except (OSError, ValueError, LedgeError) as error:
        failures[""] = _line(error)
    return failures


def exclusive_cpus(jobs: Cgroup) -> dict[str, frozenset[int]]:
    """The CPUs that slices below `jobs` hold exclusively, by name. Raises OSError, ValueError."""
    return {
        name: _cpus(jobs, f"{name}/cpuset.cpus")
        for name in _slices(jobs)
        if (jobs.read(f"{name}/cpuset.mems") or b"").strip()
    }


class _Enforcement:
    """One call of enforce()."""

    def __init__(self, slice_: Cgroup, limits: Limits, scratch: Scratch, sysfs: Path) -> None:
        self.slice = slice_
        self.limits = limits
        self.scratch = scratch
        self.sysfs = sysfs
        self.receipt = Receipt()

    def carry_out(self) -> Receipt:
        """What does harm most quickly comes first."""
        limits = self.limits
        self._attempt("pids.max", partial(self._number, "pids.max"), limits.pids_max)
        number = partial(self._number, "memory.swap.max")
        self._attempt("memory.swap.max", number, limits.memory_swap_max_bytes)
        self._attempt("memory.high", self._memory_high, limits.memory_high_bytes)
        self._attempt("cpu.max", self._cpu_max, limits.cpu_max_cores)
        self._attempt("io.max", self._io_max, self._io_limits() or None)
        self._attempt("io.weight", self._io_weight, limits.io_weight)
        self._attempt("cpuset.cpus", self._cpuset, limits.exclusive_cpus or 0)
        return self.receipt

    def _attempt(self, file: str, step: Callable[[_Value], None], value: _Value | None) -> None:
        if value is None:
            return
        try:
            step(value)
        # Numbers may be anything that a policy's expressions make of them, infinity included.
        except (OSError, ValueError, OverflowError, LedgeError) as error:
            self.receipt.not_enforced[file] = _line(error)

    def _memory_high(self, wanted: int) -> None:
        """Not below what the job has already; above memory.max it holds, but that kills first.

        Below that the kernel would reclaim on behalf of whoever writes, and block the daemon (not
        from 6.16 on, for a file that was opened with O_NONBLOCK).
        """
        wanted = _whole_pages(wanted)
        files = ("memory.high", "memory.current", "memory.max")
        high, current, maximum = (parse_single(self.slice.read(file), file) for file in files)
        looser = high is None or high > wanted
        if looser and current is not None and current > wanted:
            raise NotEnforced(
                f"the job uses {current} already, more than {wanted}",
                "a larger value, or a job that starts anew",
            )
        self._number("memory.high", wanted)
        if looser and maximum is not None and wanted >= maximum:
            self.receipt.remarks["memory.high"] = f"never reached, memory.max is {maximum}"

    def _number(self, file: str, wanted: int) -> None:
        """A file that holds one number, or "max"; memory is counted in pages."""
        wanted = _whole_pages(wanted) if file.startswith("memory.") else wanted
        existing = parse_single(self._read(file), file)
        if existing is None or existing > wanted:
            self._set(file, str(wanted))
        else:
            self._keep(file, str(existing), str(wanted))

    def _cpu_max(self, cores: float) -> None:
        quota = round(cores * _PERIOD_USEC)
        wanted = f"{quota} {_PERIOD_USEC}"
        existing = self._read("cpu.max").decode("ascii").strip()
        existing_quota, _, period = existing.partition(" ")
        if existing_quota == "max" or int(existing_quota) * _PERIOD_USEC > quota * int(period):
            self._set("cpu.max", wanted)
        else:
            self._keep("cpu.max", existing, wanted)

    def _io_limits(self) -> dict[str, int]:
        """By the keys of io.max."""
        limits = {key: getattr(self.limits, limit) for key, limit in _IO_MAX_KEYS.items()}
        return {key: value for key, value in limits.items() if value is not None}

    def _io_max(self, wanted: dict[str, int]) -> None:
        disk = self._disk()
        before = self._io_max_of(disk)
        tighter = {key: wanted[key] for key in wanted if wanted[key] < before.get(key, inf)}
        if tighter:
            pairs = [f"{key}={value}" for key, value in tighter.items()]
            self._write("io.max", " ".join([disk.number, *pairs]))
        after = self._io_max_of(disk)
        if after != {**before, **tighter}:
            raise NotEnforced(f"{tighter} was written for {disk.number}, but it reads {after}")
        pairs = [f"{key}={after.get(key, 'max')}" for key in _IO_MAX_KEYS]
        self.receipt.enforced["io.max"] = " ".join([disk.number, *pairs])
        if self.scratch is not None:
            self.receipt.not_enforced.update(missed_by_io_max(self.scratch, self.limits))

    def _io_max_of(self, disk: Disk) -> dict[str, int]:
        """What is limited on the disk; what reads "max" is not in it."""
        devices = parse_nested_keyed(self._read("io.max"), "io.max") or {}
        entry = devices.get(disk.number.encode(), {})
        return {key.decode("ascii", "replace"): value for key, value in entry.items()}

    def _io_weight(self, weight: int) -> None:
        """Set where a disk goes by it; where none does, set all the same, for one that may."""
        with groups_above(self.slice) as above:
            with_io_cost = disks_with_io_cost(above[-1].read("io.cost.qos") if above else None)
        disks = disks_below(self._disk(), self.sysfs)
        files = {disk: weight_file(disk, with_io_cost, self.sysfs) for disk in disks}
        if "io.bfq.weight" in files.values():
            self._set("io.bfq.weight", f"default {min(weight, _LARGEST_BFQ_WEIGHT)}")
        if "io.weight" in files.values():
            self._set("io.weight", f"default {weight}")
        deaf = [disk for disk, file in files.items() if file is None]
        if deaf:
            self._write("io.weight", f"default {weight}")
            raise NotEnforced(
                f"nothing on {', '.join(disk.name for disk in deaf)} goes by weights",
                f"echo bfq >/sys/block/{deaf[0].name}/queue/scheduler, or "
                f"echo '{deaf[0].number} enable=1' >/sys/fs/cgroup/io.cost.qos",
            )

    def _disk(self) -> Disk:
        if self.scratch is None:
            raise NoDiskError("the file system of the scratch directory is not known")
        return disk_of(self.scratch, self.sysfs)

    def _cpuset(self, count: int) -> None:
        """Exclusive CPUs for a job that wants some, and all but those of others for all."""
        if count:
            enable_cpuset(self.slice)
        elif not has_controller(self.slice, "cgroup.controllers", "cpuset"):
            return
        with closing(parent(self.slice)) as jobs:
            held = exclusive_cpus(jobs)
            name = _name(jobs, self.slice)
            own = held.pop(name, frozenset())
            if count:
                self._hold_exclusively(jobs, held, own, count)
                for other, reason in share_out(jobs, self.sysfs).items():
                    line = f"{other or 'others'} may run on this job's CPUs: {reason}"
                    self.receipt.not_enforced["exclusive_cpus"] = line
            elif held and not own:
                _keep_to(jobs, name, _rest(jobs, held, self.sysfs))
                self.receipt.remarks["cpuset.cpus"] = f"not {cpu_list(_union(held))}: other jobs'"

    def _hold_exclusively(
        self, jobs: Cgroup, held: dict[str, frozenset[int]], own: frozenset[int], count: int
    ) -> None:
        topology = read_topology(self.sysfs)
        allowed = _cpus(jobs, "cpuset.cpus.effective")
        others = len(_slices(jobs) - held.keys()) - 1
        chosen = choose(topology, _union(held), own, allowed, count, others)
        maximum = parse_single(self.slice.read("memory.max"), "memory.max")
        mems = memory_nodes(topology, chosen.mems, maximum)
        if mems != chosen.mems:
            remark = f"memory.max {maximum} is more than what nodes {cpu_list(chosen.mems)} have"
            self.receipt.remarks["cpuset.mems"] = remark
        # A slice without cpuset.mems holds nothing, so these come last.
        self._set("cpuset.cpus", cpu_list(chosen.cpus))
        self._set("cpuset.mems", cpu_list(mems))

    def _read(self, file: str) -> bytes:
        text = self.slice.read(file)
        if text is None:
            raise NotEnforced(*why_absent(self.slice, file))
        return text

    def _write(self, file: str, text: str) -> None:
        try:
            self.slice.write(file, text.encode("ascii"))
        except FileNotFoundError:
            raise NotEnforced(*why_absent(self.slice, file)) from None
        except OSError as error:
            problem = f"{text!r} was refused: {error.strerror}"
            raise NotEnforced(problem, remedy(error)) from error

    def _set(self, file: str, text: str) -> None:
        """Write one value, and see that it is there."""
        self._write(file, text)
        found = self._read(file).decode("ascii", "replace").strip()
        if text not in found.splitlines():
            raise NotEnforced(f"{text!r} was written, but {file} reads {found!r:.80}")
        self.receipt.enforced[file] = text

    def _keep(self, file: str, existing: str, wanted: str) -> None:
        self.receipt.enforced[file] = existing
        if existing != wanted:
            self.receipt.remarks[file] = f"{existing} was set already; {wanted} is no tighter"


def _slices(jobs: Cgroup) -> frozenset[str]:
    return frozenset(name for name in os.listdir(jobs.fd) if is_jobs_group(os.fsencode(name)))


def _name(jobs: Cgroup, slice_: Cgroup) -> str:
    """The name of a slice below its parent. Raises NotEnforced if it has gone."""
    inode = os.fstat(slice_.fd).st_ino
    with os.scandir(jobs.fd) as entries:
        for entry in entries:
            if entry.inode() == inode:
                return entry.name
    raise NotEnforced(f"{path(slice_)}: the job's group has gone")


def _cpus(group: Cgroup, file: str) -> frozenset[int]:
    return parse_cpu_list(group.read(file) or b"", file)


def _rest(jobs: Cgroup, held: dict[str, frozenset[int]], sysfs: Path) -> frozenset[int]:
    """What is left for jobs without exclusive CPUs; as in cpuset.cpus, none written is all."""
    if not held:
        return frozenset()
    rest = (_cpus(jobs, "cpuset.cpus.effective") & usable_cpus(sysfs)) - _union(held)
    if not rest:
        raise NotEnforced(
            "every CPU is some job's alone, and the other jobs run on those",
            "NUM_CPUS no more than the CPUs, and no job with more exclusive ones than request_cpus",
        )
    return rest


def _union(held: dict[str, frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*held.values())


def _keep_to(jobs: Cgroup, name: str, cpus: frozenset[int]) -> None:
    """Narrow a slice to `cpus`, or let it have all again; one that has gone needs nothing."""
    file = f"{name}/cpuset.cpus"
    now = jobs.read(file)
    if now is not None and parse_cpu_list(now, file) != cpus:
        try:
            jobs.write(file, f"{cpu_list(cpus)}\n".encode("ascii"))
        except OSError as error:
            if error.errno == ENOSPC and not cpus:
                # Older kernels (6.12) let a group with processes in it not be without: all of them.
                jobs.write(file, jobs.read("cpuset.cpus.effective") or b"")
            elif error.errno not in (ENODEV, ENOENT):
                raise


def _whole_pages(size_bytes: int) -> int:
    """What page_counter_memparse() in mm/page_counter.c makes of it."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return size_bytes // page_bytes * page_bytes


def _line(error: Exception) -> str:
    """What went wrong and what to do about it, in one line."""
    if isinstance(error, OSError):
        return f"{error.filename or ''} {error.strerror}; {remedy(error)}".strip()
    return " ".join(str(error).split())
