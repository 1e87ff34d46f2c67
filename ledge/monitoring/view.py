"""What condor_ledge top shows: lines of pieces with styles, for a screen of any size. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ledge.monitoring.columns import COLUMNS, Column, bar, in_order, size
from ledge.monitoring.node import Job, Node

# A text and its style, as rich has them.
Piece = tuple[str, str]
Line = list[Piece]

HELP = "sort: a letter or ← →   v reverse   space pause   ↑ ↓ scroll   q quit"
ASCII_HELP = "sort: a letter or arrows   v reverse   space pause   q quit"
ASCII_BLOCKS = " #"
_BLOCKS = " ▏▎▍▌▋▊▉█"
_NARROWEST_BAR = 4
_WIDEST_BAR = 16
# What a wider screen gives to each at most, before the bars have the rest.
_WIDER = {"JOB": 6, "OWNER": 9}
_FULL = 0.9
_OTHER_LINES = 3
CPU = next(number for number, column in enumerate(COLUMNS) if column.title == "CPU")


class View:
    """What the keys have chosen: the column and its direction, a pause, and the first row."""

    def __init__(self, column: int = CPU, reverse: bool = False) -> None:
        self.number = column
        self.reverse = reverse
        self.paused = False
        self.first = 0
        self.ended = False

    @property
    def column(self) -> Column:
        return COLUMNS[self.number]

    @property
    def backwards(self) -> bool:
        """Numbers begin with the greatest, words with the first."""
        return self.reverse == self.column.is_text

    def press(self, key: str) -> None:
        """Act on a key: a character, or the name of one that has none."""
        if key in ("q", "\x03"):
            self.ended = True
        elif key == " ":
            self.paused = not self.paused
        elif key == "v":
            self.reverse = not self.reverse
        elif key in ("left", "right"):
            step = 1 if key == "right" else -1
            self._sort((self.number + step) % len(COLUMNS))
        elif key in ("up", "down"):
            self.first = max(self.first + (1 if key == "down" else -1), 0)
        else:
            for number, column in enumerate(COLUMNS):
                if column.letter == key.lower():
                    self._sort(number)

    def _sort(self, number: int) -> None:
        if number != self.number:
            self.number, self.reverse = number, False


def screen(node: Node, view: View, host: str, width: int, height: int, utf8: bool) -> list[Line]:
    """All lines, as many as fit."""
    widths, bar_width = layout(width)
    jobs = in_order(node.jobs, view.column, view.backwards)
    room = max(height - _OTHER_LINES, 1)
    view.first = min(view.first, max(len(jobs) - room, 0))
    shown = jobs[view.first : view.first + room]
    blocks = _BLOCKS if utf8 else ASCII_BLOCKS
    lines = [_title(node, view, host, len(shown)), _header(view, widths, bar_width)]
    lines += [_row(job, widths, bar_width, blocks) for job in shown]
    lines += [[] for _ in range(height - 1 - len(lines))]
    return [*lines, [((HELP if utf8 else ASCII_HELP), "dim")]]


def layout(width: int) -> tuple[list[int], int]:
    """The widths of the columns, without their bars, and that of a bar."""
    widths = [column.width for column in COLUMNS]
    bars = sum(column.share is not None for column in COLUMNS)
    least = sum(widths) + len(widths) - 1 + bars * (1 + _NARROWEST_BAR)
    spare = max(width - least, 0)
    for number, column in enumerate(COLUMNS):
        more = min(_WIDER.get(column.title, 0), spare)
        widths[number] += more
        spare -= more
    return widths, min(_NARROWEST_BAR + spare // bars, _WIDEST_BAR)


def table(node: Node, view: View) -> Iterable[str]:
    """Plain text without bars, nothing cut off: for pipes and files."""
    jobs = in_order(node.jobs, view.column, view.backwards)
    rows = [[column.title for column in COLUMNS]]
    rows += [[column.text(job) for column in COLUMNS] for job in jobs]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    for row in rows:
        cells = [_aligned(*cell) for cell in zip(row, COLUMNS, widths)]
        yield " ".join(cells).rstrip()


def _title(node: Node, view: View, host: str, shown: int) -> Line:
    count = len(node.jobs) + node.left_out
    jobs = f"{count} job{'' if count == 1 else 's'}"
    if shown < count:
        jobs = f"{view.first + 1}-{view.first + shown} of {jobs}"
    cores = sum(job.figures.get("CpuInUseCores") or 0 for job in node.jobs)
    memory = sum(job.memory_used or 0 for job in node.jobs)
    line = [(f"{host[:24]}  {jobs}  ", "bold"), (f"CPU {cores:.2f}  memory {size(memory)}  ", "")]
    line.append((time.strftime("%H:%M:%S"), ""))
    return [*line, ("  paused", "bold yellow")] if view.paused else line


def _header(view: View, widths: list[int], bar_width: int) -> Line:
    line: Line = []
    for number, column in enumerate(COLUMNS):
        style = "reverse bold" if number == view.number else "bold"
        width = widths[number] + (1 + bar_width if column.share is not None else 0)
        title = _aligned(column.title, column, widths[number]).ljust(width)
        at = title.lower().index(column.letter)
        line += [(title[:at], style), (title[at], f"{style} underline"), (title[at + 1 :], style)]
        line.append((" ", ""))
    return line[:-1]


def _row(job: Job, widths: list[int], bar_width: int, blocks: str) -> Line:
    line: Line = []
    for column, width in zip(COLUMNS, widths):
        line.append((_aligned(column.text(job)[:width], column, width), ""))
        if column.share is not None:
            share = column.share(job)
            full = column.title == "MEM" and share is not None and share > _FULL
            line += [(" ", ""), (bar(share, bar_width, blocks), "red" if full else "green")]
        line.append((" ", ""))
    return line[:-1]


def _aligned(text: str, column: Column, width: int) -> str:
    return text.ljust(width) if column.is_text else text.rjust(width)
