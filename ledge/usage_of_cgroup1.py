"""A job's usage from the files of its control groups of version 1. No I/O."""

from __future__ import annotations

from ledge.figures import Files, keys, single
from ledge.kernel.cgroup1 import parse_blkio_read
from ledge.kernel.cgroup2 import parse_single
from ledge.usage import Usage

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


def usage_of_cgroup1(texts: dict[str, bytes | None]) -> Usage:
    """The usage that the files CGROUP1_FILES of one job's groups of version 1 tell.

    Version 1 has no pressure, its memory.memsw counts memory and swap as one sum, and its blkio
    does not know for whom the kernel writes what was buffered: a zero there would be a lie.
    """
    usage = Usage("cgroup1")
    files = Files(usage, texts, {}, "not read")
    _cpuacct(files)
    files.add("memory.max_usage_in_bytes", ("MemoryPeakBytes",), single)
    name = "blkio.throttle.io_service_bytes_recursive"
    files.add(name, ("BlockReadBytes",), _blkio_read)
    name = "blkio.throttle.io_serviced_recursive"
    files.add(name, ("BlockReadOperations",), _blkio_read)
    files.add("pids.peak", ("ProcessesPeak",), single)
    files.add("memory.oom_control", ("OomKills",), keys(b"oom_kill"))
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


def _blkio_read(text: bytes, name: str) -> tuple[int]:
    return (parse_blkio_read(text, name),)
