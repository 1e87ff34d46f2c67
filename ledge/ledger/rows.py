"""Which figures the table has, in which groups and units, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledge.ledger.amounts import cores, count, duration, percent, rate, size
from ledge.ledger.ledger import Ledger, share
from ledge.usage.rates import SECONDS

Remark = Callable[[Ledger], str]


class Row(NamedTuple):
    """A line: the sum of some figures, in a unit; `optional` ones are not missed."""

    label: str
    names: tuple[str, ...]
    unit: Callable[[float], str]
    remark: Remark | None = None
    optional: bool = False


def _of_cpus(ledger: Ledger) -> str:
    used = ledger.cpu_share()
    if used is None or ledger.cpus is None or ledger.wall_seconds is None:
        return ""
    cpus = "1 CPU" if ledger.cpus == 1 else f"{ledger.cpus:g} CPUs"
    return f"{percent(used)} of {cpus} for {duration(ledger.wall_seconds)}"


def _of_request(name: str) -> Remark:
    def remark(ledger: Ledger) -> str:
        asked = ledger.request_memory_bytes()
        part = share(ledger.number(name), asked)
        return f"{percent(part)} of the {size(asked)} asked for" if part and asked else ""

    return remark


def _of_time(name: str) -> Remark:
    def remark(ledger: Ledger) -> str:
        part = share(ledger.number(name), ledger.wall_seconds)
        return "" if part is None else f"{percent(part)} of the time"

    return remark


def _of_periods(ledger: Ledger) -> str:
    periods = ledger.total("CpuPeriodsCount")
    held_back = ledger.total("CpuThrottledPeriodsCount")
    if periods is None or held_back is None:
        return ""
    return f"in {count(held_back)} of {count(periods)} periods of cpu.max"


def _rate(name: str) -> Remark:
    def remark(ledger: Ledger) -> str:
        mean = share(ledger.number(name), ledger.wall_seconds)
        return rate(mean) if mean else ""

    return remark


def _of_late(ledger: Ledger) -> str:
    seconds = ledger.number(SECONDS)
    return "" if seconds is None else f"in the last {duration(seconds)}"


def _now(label: str, name: str) -> Row:
    """A rate, which running jobs have."""
    return Row(label, (f"{name}BytesPerSecond",), rate, _of_late, True)


def _traffic(name: str, things: str, number_of: str) -> Remark:
    """The rate, and how many requests or packets it was."""
    mean = _rate(name)

    def remark(ledger: Ledger) -> str:
        number = ledger.number(number_of)
        parts = [mean(ledger), "" if number is None else f"{count(number)} {things}"]
        return ", ".join([part for part in parts if part])

    return remark


def _written(ledger: Ledger) -> str:
    if ledger.figures.get("ScratchWritesCounted") is False:
        return f"not all: scratch is on {ledger.text('ScratchFileSystem')}"
    return _traffic("BlockWriteBytes", "requests", "BlockWriteOperations")(ledger)


def _killed(ledger: Ledger) -> str:
    level = ledger.text("OomLevel")
    return f"processes, by a limit of level {level!r}" if level else "processes"


def _says(words: str) -> Remark:
    return lambda ledger: words


def _network(label: str, name: str) -> Row:
    names = (f"Network{name}Bytes",)
    return Row(label, names, size, _traffic(names[0], "packets", f"Network{name}PacketsCount"))


def _disk(label: str, name: str) -> Row:
    names = (f"Block{name}Bytes",)
    return Row(label, names, size, _traffic(names[0], "requests", f"Block{name}Operations"))


def _pressure(label: str, resource: str) -> list[Row]:
    some, full = (f"Pressure{resource}{which}Seconds" for which in ("Some", "Full"))
    return [
        Row(f"waited for {label}", (some,), duration, _of_time(some)),
        Row("  all at once", (full,), duration, _of_time(full)),
    ]


GROUPS: tuple[tuple[str, list[Row]], ...] = (
    ("Processor", [
        Row("used", ("CpuUserSeconds", "CpuSystemSeconds"), duration, _of_cpus),
        Row("  by programs", ("CpuUserSeconds",), duration),
        Row("  by the kernel", ("CpuSystemSeconds",), duration),
        Row("  now", ("CpuInUseCores",), cores, _of_late, True),
        Row("held back by cpu_max", ("CpuThrottledSeconds",), duration, _of_periods),
        Row("  by any group's", ("CpuThrottledAnywhereSeconds",), duration),
    ]),
    ("Memory", [
        Row("peak", ("MemoryPeakBytes",), size, _of_request("MemoryPeakBytes")),
        Row("peak without cache", ("MemoryAnonShmemPeakBytes",), size,
            _of_request("MemoryAnonShmemPeakBytes")),
        Row("  anonymous then", ("MemoryAnonAtPeakBytes",), size),
        Row("  shared then", ("MemoryShmemAtPeakBytes",), size),
        Row("  page cache then", ("MemoryFileAtPeakBytes",), size),
        Row("  sockets then", ("MemorySockAtPeakBytes",), size),
        Row("  kernel then", ("MemoryKernelAtPeakBytes",), size),
        Row("now", ("MemoryCurrentBytes",), size, None, True),
        Row("  anonymous", ("MemoryAnonBytes",), size, None, True),
        Row("  shared", ("MemoryShmemBytes",), size, None, True),
        Row("  page cache", ("MemoryFileBytes",), size, None, True),
        Row("  sockets", ("MemorySockBytes",), size, None, True),
        Row("  kernel", ("MemoryKernelBytes",), size, None, True),
        Row("page faults, major", ("PageFaultsMajorCount",), count),
        Row("page faults, minor", ("PageFaultsMinorCount",), count),
        Row("dropped too early", ("RefaultsAnonCount", "RefaultsFileCount"), count,
            _says("pages")),
        Row("slowed at memory.high", ("MemoryHighCount",), count, _says("times")),
        Row("at memory.max", ("MemoryMaxCount",), count, _says("times")),
        Row("out of memory", ("OomCount",), count, _says("times")),
        Row("  killed", ("OomKills",), count, _killed),
        Row("  killed as a whole", ("OomGroupKillsCount",), count, _says("times")),
    ]),
    ("Swap", [
        Row("peak", ("SwapPeakBytes",), size),
        Row("now", ("SwapCurrentBytes",), size, None, True),
        Row("read", ("SwapInBytes",), size, _rate("SwapInBytes")),
        Row("written", ("SwapOutBytes",), size, _rate("SwapOutBytes")),
        Row("compressed", ("ZswapOutBytes",), size),
        Row("decompressed", ("ZswapInBytes",), size),
    ]),
    ("Disk", [
        _disk("read", "Read"), _now("  now", "BlockRead"),
        _disk("written", "Write")._replace(remark=_written), _now("  now", "BlockWrite"),
        _disk("discarded", "Discard"),
    ]),
    ("Logical I/O (files, pipes, caches; a lower bound)", [
        Row("read", ("LogicalReadBytes",), size, _rate("LogicalReadBytes")),
        Row("written", ("LogicalWriteBytes",), size, _rate("LogicalWriteBytes")),
    ]),
    ("Network", [
        _network("received", "Received"), _network("  local", "LocalReceived"),
        _now("  now", "NetworkReceived"),
        _network("sent", "Sent"), _network("  local", "LocalSent"),
        _now("  now", "NetworkSent"),
        _network("loopback received", "LoopbackReceived"),
        _network("loopback sent", "LoopbackSent"),
    ]),
    ("Pressure: at least one process, and all at once", [
        *_pressure("a CPU", "Cpu"), *_pressure("memory", "Memory"), *_pressure("the disk", "Io"),
    ]),
    ("Processes and threads", [
        Row("peak", ("ProcessesPeak",), count),
        Row("now", ("ProcessesCount",), count, None, True),
        Row("refused", ("ForksRefusedCount",), count),
    ]),
)  # fmt: skip

# Figures that are words, with their labels; missing is then nothing to be told.
WORDS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Limits", (("enforced", "Enforced"), ("not enforced", "NotEnforced"))),
    ("How it was measured", (
        ("tracking", "Tracking"), ("scratch on", "ScratchFileSystem"),
        ("namespaces", "Isolation"), ("not all", "IsolationReason"), ("mounts", "Mounts"),
        ("too low", "Incomplete"), ("sampled", "Sampled"), ("version", "Version"),
    )),
)  # fmt: skip
