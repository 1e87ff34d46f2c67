"""A job's usage from the files of its control groups of version 1. No I/O.

Source: Documentation/admin-guide/cgroup-v1/, and the kernel for what it leaves open
(mm/memcontrol-v1.c, kernel/cgroup/pids.c, block/blk-throttle.c).
"""

from __future__ import annotations

from ledge.kernel.cgroup1 import parse_blkio
from ledge.kernel.cgroup2 import parse_flat_keyed, parse_single
from ledge.usage.figures import Files, keys, single
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs a job's end some ms
if TYPE_CHECKING:
    from ledge.usage.figures import Values

BLOCK_BYTES = "blkio.throttle.io_service_bytes_recursive"
_BLOCK_REQUESTS = "blkio.throttle.io_serviced_recursive"
CGROUP1_FILES = (
    "cpuacct.usage",
    "cpuacct.usage_user",
    "cpuacct.usage_sys",
    "memory.max_usage_in_bytes",
    "memory.memsw.max_usage_in_bytes",
    "memory.stat",
    "memory.oom_control",
    BLOCK_BYTES,
    _BLOCK_REQUESTS,
    "pids.peak",
    "pids.events",
)
_SINCE = {"pids.peak": "6.1", "RefaultsAnonCount": "5.9"}
_KINDS = (b"Read", b"Write", b"Discard")
_BYTES = ("BlockReadBytes", "BlockWriteBytes", "BlockDiscardBytes")
_REQUESTS = ("BlockReadOperations", "BlockWriteOperations", "BlockDiscardOperations")
# Of a device (ledge/usage/usage.py), as version 2 calls them.
_KEYS = {BLOCK_BYTES: ("rbytes", "wbytes", "dbytes"), _BLOCK_REQUESTS: ("rios", "wios", "dios")}
# blk_throtl_activated() in block/blk-throttle.h: a zero there says nothing.
_NO_DEVICE = "no device is counted: from Linux 6.10 on only those that a limit was set for"
_WRITTEN_BACK = "what the kernel writes back for the job later counts for nobody; a lower bound"


def usage_of_cgroup1(
    texts: dict[str, bytes | None],
    stacked: frozenset[bytes] = frozenset(),
    names: dict[bytes, str] | None = None,
) -> Usage:
    """The usage that the files CGROUP1_FILES of one job's groups of version 1 tell.

    `stacked` and `names` are as for usage_of_cgroup2(). Version 1 has no pressure. It knows the
    peak of memory and swap as one sum. What limits do it counts where the limit is, above the
    job's groups: memory.failcnt and cpu.stat of these would be clean zeros, and are not read.
    """
    usage = Usage("cgroup1")
    files = Files(usage, texts, _SINCE, "not read")
    _cpuacct(files)
    files.add("memory.max_usage_in_bytes", ("MemoryPeakBytes",), single)
    files.add("memory.memsw.max_usage_in_bytes", ("MemoryAndSwapPeakBytes",), single)
    usage.miss("SwapPeakBytes", "cgroup version 1 knows memory and swap as one sum")
    files.add("memory.stat", ("PageFaultsMinorCount", "PageFaultsMajorCount"), _faults)
    refaults = keys(b"total_workingset_refault_anon", b"total_workingset_refault_file")
    files.add("memory.stat", ("RefaultsAnonCount", "RefaultsFileCount"), refaults)
    files.add("memory.oom_control", ("OomKills",), keys(b"oom_kill"))
    _block(files, stacked, names or {})
    files.add("pids.peak", ("ProcessesPeak",), single)
    files.add("pids.events", ("ForksRefusedCount",), keys(b"max"))
    usage.miss("all else", "cgroup version 1 does not tell")
    return usage


def _cpuacct(files: Files) -> None:
    """CPU time: the sum is exact, its parts are counted in ticks and scaled to the sum.

    The kernel does likewise for version 2 (cputime_adjust in kernel/sched/cputime.c).
    """
    names = ("CpuUserSeconds", "CpuSystemSeconds")
    try:
        total, user, system = [
            parse_single(files.texts.get(f"cpuacct.{name}"), f"cpuacct.{name}")
            for name in ("usage", "usage_user", "usage_sys")
        ]
    except ValueError as error:
        files.miss(names, f"makes no sense: {error}")
        return
    if total is None or user is None or system is None:
        files.miss(names, "no cpuacct.usage, cpuacct.usage_user or cpuacct.usage_sys")
        return
    user_part = total * user // (user + system) if system else total
    files.usage.figures[names[0]] = user_part / 1e9
    files.usage.figures[names[1]] = (total - user_part) / 1e9


def _faults(text: bytes, name: str) -> Values:
    """Minor and major page faults, of groups below too; pgfault counts both (mm/memory.c)."""
    found = parse_flat_keyed(text, name)
    every, major = found.get(b"total_pgfault"), found.get(b"total_pgmajfault")
    minor = None if every is None or major is None else max(every - major, 0)
    return minor, major


def _block(files: Files, stacked: frozenset[bytes], names: dict[bytes, str]) -> None:
    """What the job's processes sent to devices themselves: reads, direct writes, fsync(2).

    The kernel's own write-back knows no group in version 1.
    """

    def read(text: bytes, name: str) -> Values:
        devices = parse_blkio(text, name)
        counted = {device: found for device, found in devices.items() if device not in stacked}
        for device, found in counted.items():
            title = names.get(device) or device.decode("ascii", "replace")
            values = [found.get(kind, 0) for kind in _KINDS]
            files.usage.devices.setdefault(title, {}).update(zip(_KEYS[name], values))
        return tuple([sum([found.get(kind, 0) for found in counted.values()]) for kind in _KINDS])

    for file, figures_of_file in ((BLOCK_BYTES, _BYTES), (_BLOCK_REQUESTS, _REQUESTS)):
        text = files.texts.get(file)
        if text is not None and b":" not in text:
            files.miss(figures_of_file, _NO_DEVICE)
        else:
            files.add(file, figures_of_file, read)
    figures = files.usage.figures
    written = [name for name in (_BYTES[1], _REQUESTS[1]) if figures.get(name) is not None]
    if written:
        files.usage.incomplete[_WRITTEN_BACK] = written
    if not all("rbytes" in found and "rios" in found for found in files.usage.devices.values()):
        files.usage.devices.clear()  # one of the two files is not to be had
