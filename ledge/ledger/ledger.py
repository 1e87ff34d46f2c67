"""What a job's ad says of its usage, and of the job so far as it is needed to judge that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledge.publish.record import EXACT, READING, RUNNING, TAKEN
from ledge.publish.starter import REPORTED

# From the one that is hardest to forge to the one that anybody can, see docs/recording.md.
SOURCES = ("Ledge", "LedgeUsage", REPORTED)
# JobStatus: running, suspended; and one that has ended, but is still to be told how.
_RUNNING = (2, 7)
# HTCondor's own, see docs/attributes.md.
_OF_GPUS = ("GPUsProvisioned", "GPUsAverageUsage", "GPUsMemoryUsage")
_TRANSFERRING_OUTPUT = 6
# A job can write what it likes into ChirpLedge...: no figure is infinite, or as large as this.
_MORE_THAN_ANYTHING = 1e30
_WANTED = frozenset(
    name.lower()
    for name in (
        "Ledge", "LedgeUsage", "ClusterId", "ProcId", "Owner", "JobStatus", "RemoteHost",
        "LastRemoteHost", "RequestCpus", "CpusProvisioned", "RequestMemory", "MemoryProvisioned",
        "JobCurrentStartExecutingDate", "ActivationExecutionDuration", "CompletionDate", *_OF_GPUS,
    )
)  # fmt: skip


def is_wanted(attribute: str) -> bool:
    """Whether an attribute of a job ad is of any use here."""
    name = attribute.lower()
    return name in _WANTED or name.startswith(REPORTED.lower())


@dataclass(frozen=True)
class Ledger:
    """One job's figures, all from one source, and what the job had asked for.

    `others` are the sources that were not taken, with their readings. `wall_seconds` is the time
    over which the figures were counted; None if it cannot be told. `gpus` is what HTCondor says.
    """

    job: str
    owner: str | None
    status: int | None
    host: str | None
    cpus: float | None
    request_memory_mib: float | None
    source: str | None
    others: dict[str, str]
    reading: str
    taken: float | None
    earlier_start: bool
    wall_seconds: float | None
    figures: dict[str, object]
    gpus: dict[str, float]

    def number(self, name: str) -> float | None:
        """A figure; None if it is missing."""
        return _number(self.figures.get(name))

    def total(self, *names: str) -> float | None:
        """The sum of figures; None if one of them is missing."""
        values = [self.number(name) for name in names]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    def text(self, name: str) -> str:
        """A figure that is words, as it can be shown; empty if it is missing."""
        return _text(self.figures.get(name)) or ""

    def cpu_share(self) -> float | None:
        """The part of its CPUs' time that it used."""
        used = self.total("CpuUserSeconds", "CpuSystemSeconds")
        return share(share(used, self.wall_seconds), self.cpus)

    def request_memory_bytes(self) -> float | None:
        """What it had asked for."""
        mib = self.request_memory_mib
        return None if mib is None else mib * 1048576


def share(part: float | None, whole: float | None) -> float | None:
    """The quotient; None if one of them is missing or the whole is nothing."""
    return part / whole if part is not None and whole else None


def ledger_of(ad: Mapping[str, object], source: str | None = None) -> Ledger:
    """The ledger of a job ad, of the first source that it has, or the one named."""
    job = {name.lower(): value for name, value in ad.items()}
    found = {name: figures for name in SOURCES if (figures := _figures(ad, job, name))}
    taken_from = source if source is not None else next(iter(found), None)
    figures = dict(found.get(taken_from or "", {}))
    reading = shown(str(figures.pop(READING, EXACT)))  # by chirp there is only the one at the end
    taken = _number(figures.pop(TAKEN, None))
    earlier = _is_of_an_earlier_start(job, taken_from, taken)
    status = _whole(job.get("jobstatus"))
    ended = reading == EXACT and status not in (*_RUNNING, _TRANSFERRING_OUTPUT)
    return Ledger(
        job=".".join(shown(str(job.get(name, "?"))) for name in ("clusterid", "procid")),
        owner=_text(job.get("owner")),
        status=status,
        host=_text(job.get("remotehost")) or _text(job.get("lastremotehost")),
        cpus=_number(job.get("cpusprovisioned")) or _number(job.get("requestcpus")),
        # An expression is not in the ad as we get it: by default it is one that follows the usage.
        request_memory_mib=_number(job.get("requestmemory"))
        or _number(job.get("memoryprovisioned")),
        source=taken_from if figures else None,
        others={
            name: shown(str(record.get(READING, EXACT)))
            for name, record in found.items()
            if name != taken_from
        },
        reading=reading,
        taken=taken,
        earlier_start=earlier,
        wall_seconds=None if earlier or not figures else _wall_seconds(job, taken, ended),
        figures=figures,
        gpus={
            name: number
            for name in _OF_GPUS
            if (number := _number(job.get(name.lower()))) is not None
        },
    )


def _figures(ad: Mapping[str, object], job: Mapping[str, object], source: str) -> dict[str, object]:
    if source != REPORTED:
        record = job.get(source.lower())
        return dict(record) if isinstance(record, dict) else {}
    length = len(REPORTED)
    prefix = REPORTED.lower()
    return {name[length:]: ad[name] for name in ad if name.lower().startswith(prefix)}


def _is_of_an_earlier_start(
    job: Mapping[str, object], source: str | None, taken: float | None
) -> bool:
    """A job that runs again has the figures of its last run until there are new ones."""
    started = _number(job.get("jobcurrentstartexecutingdate"))
    if taken is not None:
        return started is not None and taken < started
    return source == REPORTED and _number(job.get("jobstatus")) in _RUNNING


def _wall_seconds(job: Mapping[str, object], taken: float | None, ended: bool) -> float | None:
    """How long the job had run when it was read, to the second.

    Of a job that has ended both times are the shadow's; else one is the node's.
    """
    started = _number(job.get("jobcurrentstartexecutingdate"))
    executed = _number(job.get("activationexecutionduration"))
    if ended and executed is not None:
        return executed or None
    end = taken or (_number(job.get("completiondate")) if ended else None)
    return end - started if end and started and end > started else None


def is_running(ledger: Ledger) -> bool:
    """Whether there are figures, and they are not the last ones."""
    return ledger.source is not None and ledger.reading == RUNNING


def _number(value: object) -> float | None:
    """None too for what is no amount of anything: then it is as if it were not there."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if -_MORE_THAN_ANYTHING < value < _MORE_THAN_ANYTHING else None


def in_record(figures: object, name: str) -> float | None:
    """A number in a figure that is a record; None if it is missing."""
    return _number(figures.get(name)) if isinstance(figures, dict) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: object) -> str | None:
    return shown(value) if isinstance(value, str) else None


def shown(text: str) -> str:
    """For a terminal: nothing that it would take for a command."""
    return "".join([c if c.isprintable() else " " for c in text])
