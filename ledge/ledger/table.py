"""The ledger of one job as a table of 80 columns, and of several with one line each. No I/O."""

from __future__ import annotations

import re
import textwrap

from ledge.ledger.advice import advice
from ledge.ledger.amounts import age, duration, percent, size
from ledge.ledger.ledger import Ledger
from ledge.ledger.rows import GROUPS, WORDS, Row
from ledge.publish.record import FINAL, RUNNING, SAMPLED
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
    FINAL: "final",
    SAMPLED: "the last sample: the job could not be read at its end",
}
_NO_REASON = "the ad does not say why"
_ABOUT_FIGURES = ("Incomplete", "Sampled")
_ALL_ELSE = "all else"  # as the writers of Unmeasured call it
_LABEL, _VALUE = 22, 12
# "NameA, NameB: why; NameC: why not": see ledge/attributes.py.
_NAMES = re.compile(r"(?:^|; )(all else|[A-Z]\w*(?:, [A-Z]\w*)*): ")


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
    reading = _READINGS.get(ledger.reading, ledger.reading)
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
        read, written = (_size_in(figures, key) for key in ("rbytes", "wbytes"))
        lines.append(f"    {name:{_LABEL - 2}}{read:>{_VALUE}}  read, {written} written")
    return lines


def _size_in(figures: object, key: str) -> str:
    value = figures.get(key) if isinstance(figures, dict) else None
    return size(value) if isinstance(value, (int, float)) else MISSING


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
        self.numbered: list[str] = []

    def number_of(self, names: tuple[str, ...]) -> int:
        general = self.reasons.get(_ALL_ELSE, _NO_REASON)
        told = [self.reasons[name] for name in names if name in self.reasons]
        reason = told[0] if told else general
        if reason not in self.numbered:
            self.numbered.append(reason)
        return self.numbered.index(reason) + 1

    def marks(self, names: tuple[str, ...]) -> list[str]:
        """What a figure is not: exact, or all."""
        marks = ["at least"] if any(name in self.too_low for name in names) else []
        return marks + (["sampled"] if any(name in self.sampled for name in names) else [])

    def lines(self) -> list[str]:
        lines = ["", "Not measured"] if self.numbered else []
        for number, reason in enumerate(self.numbered, 1):
            lines += textwrap.wrap(
                reason, WIDTH, initial_indent=f"  [{number}] ", subsequent_indent=" " * 6
            )
        return lines


def reasons(text: str) -> dict[str, str]:
    """What is said of each figure in the text of Unmeasured, Incomplete or Sampled."""
    parts = _NAMES.split(text)[1:]
    return {
        name: reason
        for names, reason in zip(parts[::2], parts[1::2])
        for name in names.split(", ")
    }


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
    return ledger.source if ledger.reading == FINAL else f"{ledger.source}, {ledger.reading}"


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
