"""A job's usage where it had no control group: what was waited for, and what was seen. No I/O.

The kernel's sums are exact for the processes that were waited for (ledge/job/waited_for.py);
readings are a lower bound for all (ledge/tracking/). Where the readings have more, somebody was
waited for by nobody.
"""

from __future__ import annotations

from ledge.job.logical_io import LEFT
from ledge.job.waited_for import FIELDS
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs a job's end some ms
if TYPE_CHECKING:
    from ledge.job.report import Ending
    from ledge.tracking.seen import Seen

_CPU = ("CpuUserSeconds", "CpuSystemSeconds")
_STORAGE = ("StorageReadBytes", "StorageWriteBytes")
_PEAKS = ("MemoryRssPeakBytes", "ProcessesPeak")
_LARGEST = "MemoryProcessPeakBytes"
_PSS = "MemoryPssPeakBytes"
# A reading counts in ticks of 10 ms, rounded down, so this is no rounding.
_SLACK_SECONDS = 0.05
_NO_WORD = "init told nothing of those it had waited for"
_NOBODY_WAITED = "nobody waited for some processes; a lower bound"


def usage_of_processes(ending: Ending, seen: Seen) -> Usage:
    """The usage that init's last words and the tracker's tell."""
    usage = Usage("processes")
    told = dict(zip(FIELDS, ending.waited_for or ()))
    _cpu(usage, told, ending, seen)
    _rusage(usage, told)
    _storage(usage, told, seen)
    _peaks(usage, seen)
    if ending.logical_io is not None and not ending.logical_io[2]:
        usage.incomplete.setdefault(LEFT, []).extend(_CPU + _STORAGE)
    usage.miss("all else", "the job had no control group of its own")
    return usage


def _cpu(usage: Usage, told: dict[str, int], ending: Ending, seen: Seen) -> None:
    exact = None
    if told:
        exact = told["user_usec"] / 1e6, told["system_usec"] / 1e6
    elif ending.cpu_seconds is not None:
        exact = ending.cpu_seconds
    sampled = seen.user_seconds, seen.system_seconds
    if exact is None and not seen.readings:
        _miss(usage, _CPU, _NO_WORD)
        return
    if exact is None or sum(sampled) > sum(exact) + _SLACK_SECONDS:
        usage.incomplete[_NO_WORD if exact is None else _NOBODY_WAITED] = list(_CPU)
        usage.sampled[_how(seen)] = list(_CPU)
        exact = sampled
    usage.figures.update(zip(_CPU, exact))


def _rusage(usage: Usage, told: dict[str, int]) -> None:
    names = ("PageFaultsMinorCount", "PageFaultsMajorCount")
    if not told:
        _miss(usage, (_LARGEST, *names), _NO_WORD)
        return
    usage.figures.update(zip(names, (told["minor_faults"], told["major_faults"])))
    if told["largest_kib"]:
        usage.figures[_LARGEST] = told["largest_kib"] * 1024
    else:
        usage.miss(_LARGEST, "less than condor-ledge itself had before it became the job")


def _storage(usage: Usage, told: dict[str, int], seen: Seen) -> None:
    if "storage_written_bytes" in told:
        values = told["storage_read_bytes"], told["storage_written_bytes"]
        usage.figures.update(zip(_STORAGE, values))
    elif seen.storage_read_bytes is not None and seen.storage_written_bytes is not None:
        usage.figures.update(zip(_STORAGE, (seen.storage_read_bytes, seen.storage_written_bytes)))
        usage.incomplete.setdefault(_NO_WORD, []).extend(_STORAGE)
        usage.sampled.setdefault(_how(seen), []).extend(_STORAGE)
    else:
        _miss(usage, _STORAGE, "the kernel keeps no account, or nobody could read it")


def _peaks(usage: Usage, seen: Seen) -> None:
    if not seen.readings:
        reason = seen.problem or "the job ended before it was looked at"
        _miss(usage, (*_PEAKS, _PSS), reason)
        return
    names = [*_PEAKS]
    usage.figures.update(zip(_PEAKS, (seen.rss_peak, seen.processes_peak)))
    if seen.pss_problem or seen.pss_peak is None:
        usage.miss(_PSS, seen.pss_problem or "not looked at")
    else:
        usage.figures[_PSS] = seen.pss_peak
        names.append(_PSS)
    usage.sampled.setdefault(_how(seen), []).extend(names)


def _how(seen: Seen) -> str:
    if seen.readings == 1:
        return "of one reading"
    between = f"{seen.shortest_seconds:.1f} to {seen.longest_seconds:.1f} s apart"
    return f"highest of {seen.readings} readings, {between}"


def _miss(usage: Usage, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        usage.miss(name, reason)
