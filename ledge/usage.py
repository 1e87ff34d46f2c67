"""A job's usage: from what the kernel's files said to figures with names and units.

No I/O. None is "not measured", never zero; `unmeasured` says why.
"""

from __future__ import annotations

from ledge.kernel.cgroup1 import parse_blkio_read
from ledge.kernel.cgroup2 import (
    parse_flat_keyed,
    parse_nested_keyed,
    parse_pressure,
    parse_single,
)

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Callable

CGROUP2_FILES = (
    "cpu.stat",
    "cpu.pressure",
    "memory.peak",
    "memory.swap.peak",
    "memory.events",
    "memory.pressure",
    "io.stat",
    "io.pressure",
    "pids.peak",
)
CGROUP1_FILES = (
    "cpuacct.usage",
    "cpuacct.usage_user",
    "cpuacct.usage_sys",
    "memory.max_usage_in_bytes",
    "memory.oom_control",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_serviced_recursive",
    "pids.peak",
)
_NOT_IN_VERSION_1 = (
    "SwapPeakBytes",
    "BlockWriteBytes",
    "BlockWriteOperations",
    "PressureCpuSomeSeconds",
    "PressureMemoryFullSeconds",
    "PressureIoFullSeconds",
)
_IO_KEYS = (b"rbytes", b"wbytes", b"rios", b"wios")

# The kernel that brought a file that older ones lack (cgroup-v2.rst, psi.rst).
_SINCE = {"memory.peak": "5.19", "memory.swap.peak": "6.5", "pids.peak": "6.1"}


class Usage:
    """Figures by name, each ending in its unit; a figure is None where it was not measured.

    `tracking` says how: "cgroup" or "cgroup1" (exact: every process, also those that escaped from
    the process tree), "processes" (CPU time of the processes that were waited for) or "none".
    `unmeasured` has the names by the reason.
    """

    __slots__ = ("tracking", "figures", "unmeasured")

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.figures: dict[str, int | float | None] = {}
        self.unmeasured: dict[str, list[str]] = {}

    def miss(self, name: str, reason: str) -> None:
        """Note that a figure was not measured, and why."""
        self.figures[name] = None
        self.unmeasured.setdefault(reason, []).append(name)


def usage_of_cgroup2(
    texts: dict[str, bytes | None], stacked: frozenset[bytes] = frozenset()
) -> Usage:
    """The usage that the files CGROUP2_FILES of one control group tell.

    `stacked` are the block devices ("MAJOR:MINOR") that pass their I/O on to others (LVM, RAID,
    encryption): the kernel counts it again there, so they do not count here.
    """
    usage = Usage("cgroup")
    _from(usage, texts, "cpu.stat", ("CpuUserSeconds", "CpuSystemSeconds"), _cpu)
    _from(usage, texts, "memory.peak", ("MemoryPeakBytes",), _single)
    _from(usage, texts, "memory.swap.peak", ("SwapPeakBytes",), _single)
    _from(
        usage,
        texts,
        "io.stat",
        ("BlockReadBytes", "BlockWriteBytes", "BlockReadOperations", "BlockWriteOperations"),
        lambda text, name: _block(text, name, stacked),
    )
    _from(usage, texts, "pids.peak", ("ProcessesPeak",), _single)
    _from(usage, texts, "cpu.pressure", ("PressureCpuSomeSeconds",), _pressure_some)
    _from(usage, texts, "memory.pressure", ("PressureMemoryFullSeconds",), _pressure_full)
    _from(usage, texts, "io.pressure", ("PressureIoFullSeconds",), _pressure_full)
    _from(usage, texts, "memory.events", ("OomKills",), _oom_kills)
    return usage


def usage_of_cgroup1(texts: dict[str, bytes | None]) -> Usage:
    """The usage that the files CGROUP1_FILES of one job's groups of version 1 tell.

    Version 1 has no pressure, its memory.memsw counts memory and swap as one sum, and its blkio
    does not know for whom the kernel writes what was buffered: a zero there would be a lie.
    """
    usage = Usage("cgroup1")
    _cpuacct(usage, texts)
    _from(usage, texts, "memory.max_usage_in_bytes", ("MemoryPeakBytes",), _single)
    name = "blkio.throttle.io_service_bytes_recursive"
    _from(usage, texts, name, ("BlockReadBytes",), _blkio_read)
    name = "blkio.throttle.io_serviced_recursive"
    _from(usage, texts, name, ("BlockReadOperations",), _blkio_read)
    _from(usage, texts, "pids.peak", ("ProcessesPeak",), _single)
    _from(usage, texts, "memory.oom_control", ("OomKills",), _oom_kills)
    for name in _NOT_IN_VERSION_1:
        usage.miss(name, "cgroup version 1 does not tell")
    return usage


def usage_of_processes(cpu_seconds: tuple[float, float]) -> Usage:
    """The usage that wait4(2) tells where there is no control group: CPU time and no more."""
    usage = Usage("processes")
    usage.figures["CpuUserSeconds"], usage.figures["CpuSystemSeconds"] = cpu_seconds
    usage.miss("all else", "the job had no control group of its own")
    return usage


def _from(
    usage: Usage,
    texts: dict[str, bytes | None],
    file: str,
    names: tuple[str, ...],
    figures: Callable[[bytes, str], tuple[int | float | None, ...]],
) -> None:
    text = texts.get(file)
    if text is None:
        reason = f"no {file}"
        if file in _SINCE:
            reason += f" (Linux {_SINCE[file]} has it)"
    else:
        try:
            values = figures(text, file)
        except (ValueError, KeyError) as error:
            reason = f"{file} makes no sense: {error}"
        else:
            for name, value in zip(names, values):
                if value is None:
                    usage.miss(name, f"not in {file}")
                else:
                    usage.figures[name] = value
            return
    for name in names:
        usage.miss(name, reason)


def _cpu(text: bytes, name: str) -> tuple[float, float]:
    figures = parse_flat_keyed(text, name)
    return figures[b"user_usec"] / 1e6, figures[b"system_usec"] / 1e6


def _cpuacct(usage: Usage, texts: dict[str, bytes | None]) -> None:
    """CPU time: the sum is exact, its parts are counted in ticks and scaled to the sum.

    The kernel does likewise for version 2 (cputime_adjust in kernel/sched/cputime.c).
    """
    names = ("CpuUserSeconds", "CpuSystemSeconds")
    try:
        total, user, system = [
            parse_single(texts.get(f"cpuacct.{name}"), f"cpuacct.{name}")
            for name in ("usage", "usage_user", "usage_sys")
        ]
    except ValueError as error:
        reason = f"makes no sense: {error}"
        total = user = system = None
    else:
        reason = "no cpuacct.usage, cpuacct.usage_user or cpuacct.usage_sys"
    if total is None or user is None or system is None:
        for name in names:
            usage.miss(name, reason)
        return
    user_part = total * user // (user + system) if system else total
    usage.figures[names[0]] = user_part / 1e9
    usage.figures[names[1]] = (total - user_part) / 1e9


def _blkio_read(text: bytes, name: str) -> tuple[int]:
    return (parse_blkio_read(text, name),)


def _single(text: bytes, name: str) -> tuple[int | None]:
    return (parse_single(text, name),)


def _block(text: bytes, name: str, stacked: frozenset[bytes]) -> tuple[int, ...]:
    devices = parse_nested_keyed(text, name) or {}
    counted = [figures for device, figures in devices.items() if device not in stacked]
    return tuple(sum(figures.get(key, 0) for figures in counted) for key in _IO_KEYS)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6


def _pressure_some(text: bytes, name: str) -> tuple[float | None]:
    return (_seconds(parse_pressure(text, name).get(b"some")),)


def _pressure_full(text: bytes, name: str) -> tuple[float | None]:
    return (_seconds(parse_pressure(text, name).get(b"full")),)


def _oom_kills(text: bytes, name: str) -> tuple[int | None]:
    return (parse_flat_keyed(text, name).get(b"oom_kill"),)
