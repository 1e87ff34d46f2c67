"""The ledger of one job as a table of 80 columns, and of several with one line each. No I/O."""

from __future__ import annotations

import re
import textwrap
from fnmatch import fnmatchcase

from ledge.ledger.advice import advice
from ledge.ledger.amounts import age, duration, percent, size
from ledge.ledger.ledger import Ledger, in_record, shown
from ledge.ledger.rows import GROUPS, WORDS, Row
from ledge.publish.record import AGE, EXACT, RUNNING, SAMPLED
from ledge.publish.starter import REPORTED

WIDTH = 80
MISSING = "-"
_STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held",
           6: "transferring output", 7: "suspended"}  # fmt: skip
_WAYS = {
    "Ledge": "Ledge, recorded at the schedd: the owner cannot change it",
    "LedgeUsage": "LedgeUsage, through the starter: the job cannot forge it",
    REPORTED: f"{REPORTED}..., reported by the wrapper: a job could forge it",
}
_READINGS = {
    RUNNING: "of a running job, not final",
    EXACT: "exact",
    SAMPLED: "the last sample{age}: the job could not be read at its end",
}
_NO_REASON = "the ad does not say why"
_LOGICAL_IO = "LogicalReadBytes", "LogicalWriteBytes"
_TOLD_BY_INIT = f"the job's own init tells it, so only {REPORTED} has it"
_ABOUT_FIGURES = ("Incomplete", "Sampled")
_ALL_ELSE = "all else"  # as the writers of Unmeasured call it
_LABEL, _VALUE = 22, 12
# "NameA, Name*B: why; NameC: why not": see ledge/usage/attributes.py. A star is any part of a name.
_NAMES = re.compile(r"(?:^|; )(all else|[A-Z][\w*]*(?:, [A-Z][\w*]*)*): ")


def table(ledger: Ledger, now: float) -> str:
    """Everything about one job; `now` is in seconds since 1970."""
    lines = _head(ledger, now)
    if ledger.source is None:
        return "\n".join(lines)
    notes = _Notes(ledger)
    for title, rows in GROUPS:
        lines += ["", title, *_rows(ledger, rows, notes)]
        if title == "Disk":
            lines += _devices(ledger)
    lines += _gpus(ledger)
    for title, words in WORDS:
        lines += _words(ledger, title, words)
    lines += notes.lines()
    sentences = advice(ledger)
    lines += ["", "What it means"] if sentences else []
    for sentence in sentences:
        lines += textwrap.wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _head(ledger: Ledger, now: float) -> list[str]:
    words = [f"Job {ledger.job}", ledger.owner or "", _STATES.get(ledger.status or 0, "")]
    lines = [", ".join([word for word in words if word])]
    if ledger.host:
        lines[0] += f" on {ledger.host}"
    if ledger.source is None:
        return [*lines, "It has no figures of condor-ledge (yet)."]
    age_then = ledger.number(AGE)
    before = "" if age_then is None else f", {duration(age_then)} before its end"
    reading = _READINGS.get(ledger.reading, ledger.reading).replace("{age}", before)
    taken = "" if ledger.taken is None else f", read {age(now - ledger.taken)} ago"
    lines += textwrap.wrap(f"Figures: {_WAYS[ledger.source]}; {reading}{taken}.", WIDTH)
    if ledger.earlier_start:
        lines.append("They are of an earlier start of the job.")
    if ledger.others:
        others = ", ".join(f"{name} ({reading})" for name, reading in ledger.others.items())
        lines += textwrap.wrap(f"Not shown, see --source: {others}.", WIDTH)
    return lines


def _rows(ledger: Ledger, rows: list[Row], notes: _Notes) -> list[str]:
    """A line for each; a single one where all of them are missing for the same reason."""
    if all(ledger.total(*row.names) is None for row in rows):
        numbers = {notes.number_of(row.names) for row in rows if not row.optional}
        if len(numbers) == 1:
            rows = [rows[0]._replace(label="all")]
    return [line for row in rows if (line := _line(ledger, row, notes))]


def _line(ledger: Ledger, row: Row, notes: _Notes) -> str:
    value = ledger.total(*row.names)
    if value is None and row.optional:
        return ""
    label = f"  {row.label:{_LABEL}}"
    if value is None:
        return f"{label}{MISSING:>{_VALUE}}  [{notes.number_of(row.names)}]"
    remarks = [row.remark(ledger) if row.remark else "", *notes.marks(row.names)]
    remark = ", ".join([text for text in remarks if text])
    return f"{label}{row.unit(value):>{_VALUE}}  {remark}".rstrip()


def _devices(ledger: Ledger) -> list[str]:
    """Where more than one disk was used, how much each, sorted by name."""
    devices = ledger.figures.get("BlockDevices")
    lines = []
    for name, figures in sorted(devices.items()) if isinstance(devices, dict) else ():
        read, written = (_size(in_record(figures, key)) for key in ("rbytes", "wbytes"))
        lines.append(f"    {shown(name):{_LABEL - 2}}{read:>{_VALUE}}  read, {written} written")
    return lines


def _gpus(ledger: Ledger) -> list[str]:
    """What HTCondor says of the devices that the job was given; nothing where it says nothing."""
    used = ledger.gpus.get("GPUsAverageUsage")
    peak = ledger.gpus.get("GPUsMemoryUsage")
    if used is None and peak is None:
        return []
    given = ledger.gpus.get("GPUsProvisioned")
    amount = MISSING if used is None else f"{used:.2f}"
    remark = "" if given is None else f"of {given:g} on average"
    return [
        "",
        "GPUs (by HTCondor: the devices as a whole, whoever used them)",
        f"  {'used':{_LABEL}}{amount:>{_VALUE}}  {remark}".rstrip(),
        f"  {'memory, peak':{_LABEL}}{_size(None if peak is None else peak * 1048576):>{_VALUE}}",
    ]


def _words(ledger: Ledger, title: str, words: tuple[tuple[str, str], ...]) -> list[str]:
    lines = []
    for label, name in words:
        text = ledger.text(name)
        if name in _ABOUT_FIGURES:  # which ones is said beside them
            text = "; ".join(dict.fromkeys(reasons(text).values())) or text
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=f"  {label:{_LABEL}}", subsequent_indent=" " * (_LABEL + 2)
        )
    return ["", title, *lines] if lines else []


class _Notes:
    """Why figures are missing, numbered as they come up, and which are not exact."""

    def __init__(self, ledger: Ledger) -> None:
        self.reasons = reasons(ledger.text("Unmeasured"))
        self.too_low = reasons(ledger.text("Incomplete"))
        self.sampled = reasons(ledger.text("Sampled"))
        if ledger.source != REPORTED:
            self.reasons.update(dict.fromkeys(_LOGICAL_IO, _TOLD_BY_INIT))
        self.numbered: list[str] = []

    def number_of(self, names: tuple[str, ...]) -> int:
        general = self.reasons.get(_ALL_ELSE, _NO_REASON)
        told = [reason for name in names if (reason := _of(name, self.reasons)) is not None]
        reason = told[0] if told else general
        if reason not in self.numbered:
            self.numbered.append(reason)
        return self.numbered.index(reason) + 1

    def marks(self, names: tuple[str, ...]) -> list[str]:
        """What a figure is not: exact, or all."""
        kinds = (("at least", self.too_low), ("sampled", self.sampled))
        return [mark for mark, told in kinds if any(_of(name, told) is not None for name in names)]

    def lines(self) -> list[str]:
        lines = ["", "Not measured"] if self.numbered else []
        for number, reason in enumerate(self.numbered, 1):
            lines += textwrap.wrap(
                reason, WIDTH, initial_indent=f"  [{number}] ", subsequent_indent=" " * 6
            )
        return lines


def reasons(text: str) -> dict[str, str]:
    """What is said of each figure in the text of Unmeasured, Incomplete or Sampled."""
    parts = _NAMES.split(text.removesuffix("; ..."))[1:]  # for the rest the ad had no room
    return {
        name: reason
        for names, reason in zip(parts[::2], parts[1::2])
        for name in names.split(", ")
    }


def _of(name: str, told: dict[str, str]) -> str | None:
    """What is said of a figure, also where a name with a star stands for it."""
    return next((reason for names, reason in told.items() if fnmatchcase(name, names)), None)


def overview(ledgers: list[Ledger]) -> str:
    """A line for each job."""
    head = ("ID", "OWNER", "CPU", "TIME", "PEAK", "ASKED", "READ", "WRITTEN", "NETWORK", "FIGURES")
    cells = [head, *[_cells(ledger) for ledger in ledgers]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [_aligned(line, widths) for line in cells]
    if any(MISSING in line for line in cells):
        lines += ["", f"{MISSING}: not measured; condor_ledge usage with the job's id says why."]
    return "\n".join(lines)


def _cells(ledger: Ledger) -> tuple[str, ...]:
    used = ledger.cpu_share()
    wall = ledger.wall_seconds
    network = ledger.total("NetworkReceivedBytes", "NetworkSentBytes")
    return (
        ledger.job,
        ledger.owner or MISSING,
        MISSING if used is None else percent(used),
        MISSING if wall is None else duration(wall),
        _size(ledger.number("MemoryPeakBytes")),
        _size(ledger.request_memory_bytes()),
        _size(ledger.number("BlockReadBytes")),
        _size(ledger.number("BlockWriteBytes")),
        _size(network),
        _source(ledger),
    )


def _source(ledger: Ledger) -> str:
    if ledger.source is None:
        return MISSING
    return ledger.source if ledger.reading == EXACT else f"{ledger.source}, {ledger.reading}"


def _size(value: float | None) -> str:
    return MISSING if value is None else size(value)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    """Words to the left, amounts to the right."""
    last = len(cells) - 1
    parts = [
        f"{cell:<{width}}" if i in (1, last) else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, widths))
    ]
    return " ".join(parts).rstrip()
