"""A job's usage from the files of its control group of version 2. No I/O.

Source: Documentation/admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst, and the kernel
for what these leave open. docs/attributes.md has every figure with its file and its kernel.

A file is named by its path from the job's own group: most are in that, some in the slice above it
("../"), where the limits sit: the kernel counts throttling, memory.high and refused forks at the
group that has the limit, and shows a clean zero below it.
"""

from __future__ import annotations

import posix

from ledge.kernel.cgroup2 import (
    parse_flat_keyed,
    parse_nested_keyed,
    parse_pressure,
    parse_single,
)
from ledge.usage.figures import Files, called, keys, seconds, seconds_of, single
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.usage.figures import Values

# What every reading of a running job has: all that its peaks need, and what is worth having of one
# that is killed before anybody can ask. Every name here costs each job some microseconds.
SAMPLED_FILES = (
    "cpu.stat",
    "memory.peak",
    "memory.stat",
    "memory.events",
    "io.stat",
    "pids.peak",
)
_FILES_AT_THE_END = (
    "cpu.stat.local",
    "cpu.pressure",
    "memory.swap.peak",
    "memory.pressure",
    "io.pressure",
)
SLICE_FILES = (
    "../cpu.stat",
    "../memory.events",
    "../memory.events.local",
    "../memory.max",
    "../pids.events",
)
# The group that the job's first processes live in; before Linux 6.11 a refused fork counts here.
_LEAF_FILES = ("job/pids.events",)
CGROUP2_FILES = (*SAMPLED_FILES, *_FILES_AT_THE_END, *SLICE_FILES, *_LEAF_FILES)
# Of the moment, and so of no meaning when the job has ended.
FILES_OF_NOW = ("memory.current", "memory.stat", "memory.swap.current", "pids.current")

# The kernel that brought a file or a key that Linux 5.14 lacks.
_SINCE = {
    "cpu.stat.local": "6.6",
    "memory.peak": "5.19",
    "memory.swap.peak": "6.5",
    "pids.peak": "6.1",
    "SwapInBytes": "6.13",
    "SwapOutBytes": "6.13",
    "ZswapInBytes": "5.19, with zswap,",
    "ZswapOutBytes": "5.19, with zswap,",
    "MemoryKernelBytes": "5.18",
    "OomGroupKillsCount": "5.17",
}
# A request_memory for a job that hit its limit: what it had was too little, and nobody knows by how
# much, so it is half as much again, in whole steps of this size.
_HALF_AS_MUCH_AGAIN = 1.5
_STEP_MIB = 128
_MIB = 1 << 20
_PAGE_BYTES = posix.sysconf("SC_PAGE_SIZE")
_IO_KEYS = (b"rbytes", b"wbytes", b"rios", b"wios", b"dbytes", b"dios")
_IO_FIGURES = (
    "BlockReadBytes",
    "BlockWriteBytes",
    "BlockReadOperations",
    "BlockWriteOperations",
    "BlockDiscardBytes",
    "BlockDiscardOperations",
)
_KINDS = {
    "Anon": b"anon",
    "Shmem": b"shmem",
    "File": b"file",
    "Kernel": b"kernel",
    "Sock": b"sock",
}
PEAK_OF_SAMPLES = "MemoryAnonShmemPeakBytes"
_KINDS_AT_PEAK = tuple([f"Memory{kind}AtPeakBytes" for kind in _KINDS])
_SAMPLED = (PEAK_OF_SAMPLES, "Memory*AtPeakBytes")  # for short


def usage_of_cgroup2(
    texts: dict[str, bytes | None],
    stacked: frozenset[bytes] = frozenset(),
    names: dict[bytes, str] | None = None,
    unread: str = "not read",
) -> Usage:
    """The usage that the files CGROUP2_FILES tell; None is a file that is not there.

    A file that is not among the texts was not read; `unread` says why. `stacked` are the block
    devices ("MAJOR:MINOR") that pass their I/O on to others (LVM, RAID, encryption): the kernel
    counts it again there, so they do not count here. `names` has the names of devices.
    """
    usage = Usage("cgroup")
    files = Files(usage, texts, _SINCE, unread)
    _cpu(files)
    _memory(files)
    _block(files, stacked, names or {})
    files.add("pids.peak", ("ProcessesPeak",), single)
    _forks_refused(files)
    for resource in ("Cpu", "Memory", "Io"):
        both = (f"Pressure{resource}SomeSeconds", f"Pressure{resource}FullSeconds")
        files.add(f"{resource.lower()}.pressure", both, _pressure)
    _out_of_memory(files)
    return usage


def usage_of_now(texts: dict[str, bytes | None]) -> Usage:
    """What the files FILES_OF_NOW say of a running job: of the moment, not of all its time."""
    usage = Usage("cgroup")
    files = Files(usage, texts, _SINCE, "not read")
    files.add("memory.current", ("MemoryCurrentBytes",), single)
    kinds = tuple([f"Memory{kind}Bytes" for kind in _KINDS])
    files.add("memory.stat", kinds, keys(*_KINDS.values()))
    files.add("memory.swap.current", ("SwapCurrentBytes",), single)
    files.add("pids.current", ("ProcessesCount",), single)
    return usage


def anon_and_shmem(memory_stat: bytes | None) -> int | None:
    """What belongs to processes and cannot be dropped, in bytes; None if the text does not say.

    For every reading of every job, so nothing else of the text is looked at.
    """
    if memory_stat is None or not memory_stat.startswith(b"anon "):
        return None
    total = 0
    for key in (b"anon ", b"\nshmem "):
        begin = memory_stat.find(key) + len(key)
        value = memory_stat[begin : memory_stat.find(b"\n", begin)]
        if begin < len(key) or not value.isdigit():
            return None
        total += int(value)
    return total


def add_peak_of_samples(usage: Usage, memory_stat: bytes | None, how: str) -> None:
    """Add the highest sum of anon and shmem that was seen, and what else there was at that time.

    The kernel keeps no such peak (memory.peak has the page cache in it). `memory_stat` is the text
    of the reading with the highest; None if there was none. `how` says how often was looked, or why
    not.
    """
    peak = anon_and_shmem(memory_stat)
    if memory_stat is None or peak is None:
        usage.figures.update(dict.fromkeys((PEAK_OF_SAMPLES, *_KINDS_AT_PEAK)))
        usage.unmeasured.setdefault(how, []).extend(_SAMPLED)
        return
    usage.figures[PEAK_OF_SAMPLES] = peak
    files = Files(usage, {"memory.stat": memory_stat}, _SINCE, how)
    files.add("memory.stat", _KINDS_AT_PEAK, keys(*_KINDS.values()))
    usage.sampled[how] = list(_SAMPLED)


def oom_level(slice_events: bytes | None, slice_local: bytes | None) -> str | None:
    """Whose limit it was that made the kernel kill: "slice", "job" or "above"; None without a kill.

    From memory.events and memory.events.local of the slice. `oom` counts at the group whose limit
    was reached, `oom_kill` at that of the victim; in memory.events both count in all groups above
    too (mm/memcontrol.c, mm/oom_kill.c).

        slice   the memory that the slot was given: the job asked for too little
        job     a limit that the job set itself, on a group that it made
        above   a limit of a group above the slice, or the whole machine: not the job's fault

    Where several killed it is the slice that is named: HTCondor has it killed as a whole, which
    ends the job. Raises ValueError, KeyError.
    """
    events = parse_flat_keyed(slice_events, "../memory.events")
    if not events[b"oom_kill"]:
        return None
    if parse_flat_keyed(slice_local, "../memory.events.local")[b"oom"]:
        return "slice"
    return "job" if events[b"oom"] else "above"


def suggested_request_mib(limit_bytes: int, swap_peak_bytes: int) -> int:
    """A request_memory, in MiB, for a job that was killed at this limit of its slot."""
    had_mib = (limit_bytes + swap_peak_bytes) / _MIB
    return -int(-had_mib * _HALF_AS_MUCH_AGAIN // _STEP_MIB) * _STEP_MIB


def _cpu(files: Files) -> None:
    names = ("CpuUserSeconds", "CpuSystemSeconds")
    files.add("cpu.stat", names, seconds_of(b"user_usec", b"system_usec"))
    files.add("../cpu.stat", ("CpuThrottledSeconds",), seconds_of(b"throttled_usec"))
    names = ("CpuThrottledPeriodsCount", "CpuPeriodsCount")
    files.add("../cpu.stat", names, keys(b"nr_throttled", b"nr_periods"))
    names_anywhere = ("CpuThrottledAnywhereSeconds",)
    files.add("cpu.stat.local", names_anywhere, seconds_of(b"throttled_usec"))


def _memory(files: Files) -> None:
    files.add("memory.peak", ("MemoryPeakBytes",), single)
    files.add("memory.swap.peak", ("SwapPeakBytes",), single)
    files.add("memory.stat", ("PageFaultsMinorCount", "PageFaultsMajorCount"), _faults)
    refaults = keys(b"workingset_refault_anon", b"workingset_refault_file")
    files.add("memory.stat", ("RefaultsAnonCount", "RefaultsFileCount"), refaults)
    names = ("SwapInBytes", "SwapOutBytes", "ZswapInBytes", "ZswapOutBytes")
    pages = keys(b"pswpin", b"pswpout", b"zswpin", b"zswpout", unit=_PAGE_BYTES)
    files.add("memory.stat", names, pages)


def _block(files: Files, stacked: frozenset[bytes], names: dict[bytes, str]) -> None:
    def read(text: bytes, name: str) -> Values:
        devices = parse_nested_keyed(text, name) or {}
        counted = {device: found for device, found in devices.items() if device not in stacked}
        for device, found in counted.items():
            if found:
                title = names.get(device) or device.decode("ascii", "replace")
                values = {key.decode(): found.get(key, 0) for key in _IO_KEYS}
                files.usage.devices[title] = values
        return tuple([sum([found.get(key, 0) for found in counted.values()]) for key in _IO_KEYS])

    files.add("io.stat", _IO_FIGURES, read)


def _forks_refused(files: Files) -> None:
    """The greater of what slice and leaf say: the other one is zero, or a part of it.

    From Linux 6.11 on pids.events counts the limits that were hit in a group and below it; before,
    and with the mount option pids_localevents, the forks that failed in the group itself
    (kernel/cgroup/pids.c).
    """
    names = ("ForksRefusedCount",)
    found: list[int] = []
    for file in ("../pids.events", "job/pids.events"):
        try:
            count = parse_flat_keyed(files.texts.get(file), file).get(b"max")
        except ValueError as error:
            files.miss(names, f"{called(file)} makes no sense: {error}")
            return
        found += [] if count is None else [count]
    if found:
        files.usage.figures[names[0]] = max(found)
    else:
        files.miss(names, files.absence("../pids.events"))


def _out_of_memory(files: Files) -> None:
    files.add("memory.events", ("OomKills",), keys(b"oom_kill"))
    names = ("OomCount", "OomGroupKillsCount", "MemoryHighCount", "MemoryMaxCount")
    found = keys(b"oom", b"oom_group_kill", b"high", b"max")
    files.add("../memory.events", names, found)
    both = [files.texts.get(f"../memory.{name}") for name in ("events", "events.local")]
    if None not in both:
        try:
            files.usage.oom_level = oom_level(*both)
        except (ValueError, KeyError):
            pass  # what is wrong with them stands beside their figures
    if files.usage.oom_level == "slice":
        _suggest(files)


def _suggest(files: Files) -> None:
    try:
        limit = parse_single(files.texts.get("../memory.max"), "../memory.max")
    except ValueError:
        return
    if limit is not None:
        swap = files.usage.figures.get("SwapPeakBytes") or 0
        files.usage.suggested_request_mib = suggested_request_mib(limit, int(swap))


def _faults(text: bytes, name: str) -> Values:
    """Minor and major page faults; pgfault counts both (mm/memory.c)."""
    found = parse_flat_keyed(text, name)
    every, major = found.get(b"pgfault"), found.get(b"pgmajfault")
    minor = None if every is None or major is None else max(every - major, 0)
    return minor, major


def _pressure(text: bytes, name: str) -> Values:
    totals = parse_pressure(text, name)
    return seconds(totals.get(b"some")), seconds(totals.get(b"full"))
