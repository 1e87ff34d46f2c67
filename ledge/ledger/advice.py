"""What a job's figures mean, in sentences. Pure: no sentence where a figure is missing.

Each rule is a function of a ledger that returns its sentence or None; RULES has them in the order
in which they are read.
"""

from __future__ import annotations

import math

from ledge.ledger.amounts import count, percent, size
from ledge.ledger.ledger import Ledger, is_running, share

# Times are known to the second: of a shorter job a share says little.
SHORTEST_SECONDS = 30
# Used less of its CPUs than this: why?
LITTLE_CPU = 0.5
# Waited at least this part of the time: a reason.
MUCH_WAITING = 0.2
# A request of at least this many times what would do is too much.
FAR_TOO_MUCH = 2
# Above this part of the request, what processes hold leaves no room.
NEARLY_ALL = 0.9
# The room that a suggested request leaves, and what it is rounded up to.
HEADROOM = 1.25
GRANULE_MIB = 128
# Of the periods of cpu.max, those in which it held the job back.
OFTEN_THROTTLED = 0.1
# Less in swap than this is what the kernel puts there anyway.
LITTLE_SWAP_BYTES = 64 << 20
_MIB = 1 << 20

_WAITS = (
    ("PressureIoSomeSeconds", "the disk"),
    ("PressureMemorySomeSeconds", "memory"),
    ("PressureCpuSomeSeconds", "a CPU"),
)


def advice(ledger: Ledger) -> list[str]:
    """All that there is to say, in an order to be read."""
    return [sentence for rule in RULES if (sentence := rule(ledger)) is not None]


def suggested_request_mib(peak_bytes: float) -> int:
    """A request_memory for a job with this peak: a quarter more, in whole granules."""
    return math.ceil(peak_bytes * HEADROOM / _MIB / GRANULE_MIB) * GRANULE_MIB


def processor(ledger: Ledger) -> str | None:
    """How much of its CPUs it used and, if that is little, what its processes waited for."""
    used = ledger.cpu_share()
    wall = ledger.wall_seconds
    if used is None or wall is None or wall < SHORTEST_SECONDS or ledger.cpus is None:
        return None
    cpus = "its CPU" if ledger.cpus == 1 else f"its {ledger.cpus:g} CPUs"
    sentence = f"Used {percent(used)} of {cpus}"
    waits = _waits(ledger) if used < LITTLE_CPU else []
    if waits:
        return f"{sentence}; its processes waited for {' and '.join(waits)} of the time."
    enough = max(math.ceil(used * ledger.cpus), 1)
    if used < LITTLE_CPU and enough < ledger.cpus and not is_running(ledger):
        return f"{sentence}: on average, request_cpus = {enough} would have done."
    return f"{sentence}."


def _waits(ledger: Ledger) -> list[str]:
    shares = [(share(ledger.number(name), ledger.wall_seconds), what) for name, what in _WAITS]
    long = [(part, what) for part, what in shares if part is not None and part >= MUCH_WAITING]
    return [f"{what} {percent(min(part, 1))}" for part, what in sorted(long, reverse=True)]


def killed(ledger: Ledger) -> str | None:
    """Who was killed for want of memory, and whose limit it was."""
    kills = ledger.number("OomKills")
    level = ledger.text("OomLevel")
    if not kills:
        return None
    who = "1 process was" if kills == 1 else f"{count(kills)} processes were"
    sentence = f"{who} killed for want of memory"
    if level == "slice":
        return f"{sentence}: the job asked for too little{_more_memory(ledger)}."
    if level == "job":
        return f"{sentence}, by a limit that the job had set itself."
    if level == "above":
        return f"{sentence} on the node or above the job, which is not the job's fault."
    return f"{sentence}; whose limit it was is not known."


def _more_memory(ledger: Ledger) -> str:
    """What ledged suggests; without that, from the peak: it stops at the limit, if not before."""
    asked = ledger.request_memory_bytes()
    peak = ledger.number("MemoryPeakBytes")
    if asked is None:
        return ""
    suggested = ledger.number("SuggestedRequestMemoryMiB")
    wanted = round(suggested or suggested_request_mib(max(asked, peak or 0)))
    return f" ({size(asked)}); try request_memory = {wanted}"


def memory(ledger: Ledger) -> str | None:
    """Whether it asked for far too much memory, or was short of it."""
    asked = ledger.request_memory_bytes()
    peak = ledger.number("MemoryPeakBytes")
    held = ledger.number("MemoryAnonShmemPeakBytes")
    if not asked or peak is None or is_running(ledger) or ledger.number("OomKills"):
        return None
    enough = suggested_request_mib(peak)
    asking = f"Asked for {size(asked)} of memory"
    if enough * _MIB * FAR_TOO_MUCH <= asked:
        return f"{asking}, needed {size(peak)}: request_memory = {enough} is enough."
    if held is not None and held > NEARLY_ALL * asked:
        return f"{asking}, needed at least {size(held)}: request_memory = {enough} leaves room."
    return None


def throttled(ledger: Ledger) -> str | None:
    """Whether cpu_max held it back."""
    part = share(ledger.number("CpuThrottledPeriodsCount"), ledger.number("CpuPeriodsCount"))
    if part is None or part < OFTEN_THROTTLED:
        return None
    return f"Its limit of CPU time, cpu_max, held it back {percent(part)} of the time it ran."


def forks(ledger: Ledger) -> str | None:
    """Whether it wanted more processes than it may have."""
    refused = ledger.number("ForksRefusedCount")
    if not refused:
        return None
    times = "once" if refused == 1 else f"{count(refused)} times"
    peak = ledger.number("ProcessesPeak")
    had = "" if peak is None else f"; it had up to {count(peak)}"
    return f"A new process or thread was refused {times}, by pids_max{had}."


def swapped(ledger: Ledger) -> str | None:
    """Whether much of it was in swap."""
    peak = ledger.number("SwapPeakBytes")
    if peak is None or peak < LITTLE_SWAP_BYTES:
        return None
    return f"Up to {size(peak)} of its memory was in swap, which is slow."


RULES = (processor, killed, memory, throttled, forks, swapped)
