"""The columns of condor_ledge top: what stands in them, and how they are sorted. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Union

from ledge.monitoring.node import Job

NOTHING = "-"
_UNITS = "KMGTPE"
_THOUSAND = 999.5
_LETTERS = {"cpu": "c", "memory": "m", "io": "i"}
_EIGHTHS = " ▏▎▍▌▋▊▉█"

Key = Union[float, str, tuple[Union[int, str], ...], None]


class Column(NamedTuple):
    """`letter`, one of the title's, is its key; `share` is what a bar shows, of 1."""

    title: str
    letter: str
    width: int
    text: Callable[[Job], str]
    key: Callable[[Job], Key]
    share: Callable[[Job], float | None] | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is words, that stand to the left; numbers stand to the right."""
        return self.title in ("SLOT", "JOB", "OWNER")


def size(value: float | None) -> str:
    """Bytes, or bytes per second, in five characters at most; 1K is 1024."""
    if value is None:
        return NOTHING
    unit = ""
    for larger in _UNITS:
        if value < _THOUSAND:
            break
        value /= 1024
        unit = larger
    digits = 1 if unit and value < 99.95 else 0
    return f"{value:.{digits}f}{unit}"


def bar(share: float | None, width: int, blocks: str = _EIGHTHS) -> str:
    """A bar of that many characters; `blocks` are those from empty to full."""
    if share is None:
        return " " * width
    steps = len(blocks) - 1
    filled = round(min(max(share, 0.0), 1.0) * width * steps)
    whole, part = divmod(filled, steps)
    return (blocks[-1] * whole + (blocks[part] if part else "")).ljust(width)


def in_order(jobs: list[Job], column: Column, backwards: bool) -> list[Job]:
    """Sorted by the column; what is not known stands last, whichever way."""
    known = [job for job in jobs if column.key(job) is not None]
    unknown = [job for job in jobs if column.key(job) is None]
    return sorted(known, key=column.key, reverse=backwards) + unknown  # type: ignore[arg-type]


def natural(text: str | None) -> tuple[int | str, ...] | None:
    """A key by which slot1_2 comes before slot1_10."""
    if text is None:
        return None
    words: list[int | str] = []
    for word in "".join([c if c.isdigit() else f" {c} " for c in text]).split():
        words += [0, int(word)] if word.isdigit() else [1, word]
    return tuple(words)


def pressure(job: Job) -> tuple[float, str] | None:
    """The highest of the last ten seconds, in percent, and whose it is."""
    return max([(value, name) for name, value in job.pressure.items()], default=None)


def cores_share(job: Job) -> float | None:
    """CPUs in use, of those that the job may use."""
    return _share(job.figures.get("CpuInUseCores"), job.cores)


def memory_share(job: Job) -> float | None:
    """Memory that cannot be dropped, of the limit."""
    return _share(job.memory_used, job.memory_limit)


def _share(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _cores(job: Job) -> str:
    value = job.figures.get("CpuInUseCores")
    if value is None:
        return NOTHING
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _processes(job: Job) -> float | None:
    return job.figures.get("ProcessesCount")


def _count(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value < 10000 else f"{value / 1000:.0f}k"


def _pressure(job: Job) -> str:
    worst = pressure(job)
    return NOTHING if worst is None else f"{_LETTERS[worst[1]]}{worst[0]:.0f}"


def _of(figure: str) -> tuple[Callable[[Job], str], Callable[[Job], Key]]:
    """A size of a figure, and the figure."""
    return lambda job: size(job.figures.get(figure)), lambda job: job.figures.get(figure)


def _owner(job: Job) -> str | None:
    return job.owner or job.user


COLUMNS = (
    Column("SLOT", "s", 8, lambda job: job.slot or NOTHING, lambda job: natural(job.slot)),
    Column("JOB", "j", 8, lambda job: job.job or NOTHING, lambda job: natural(job.job)),
    Column("OWNER", "o", 7, lambda job: _owner(job) or NOTHING, _owner),
    Column("CPU", "c", 4, _cores, lambda job: job.figures.get("CpuInUseCores"), cores_share),
    Column("MEM", "m", 5, lambda job: size(job.memory_used), lambda job: job.memory_used,
           memory_share),
    Column("READ", "r", 5, *_of("BlockReadBytesPerSecond")),
    Column("WRITE", "w", 5, *_of("BlockWriteBytesPerSecond")),
    Column("IN", "i", 5, *_of("NetworkReceivedBytesPerSecond")),
    Column("OUT", "u", 5, *_of("NetworkSentBytesPerSecond")),
    Column("PROC", "p", 4, lambda job: _count(_processes(job)), _processes),
    Column("PRES", "e", 4, _pressure, lambda job: (pressure(job) or (None,))[0]),
)  # fmt: skip
