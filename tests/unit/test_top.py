"""What condor_ledge top makes of jobs: cells, order, and lines for a screen."""

from __future__ import annotations

import pytest

from ledge.monitoring.columns import COLUMNS, bar, in_order, natural, size
from ledge.monitoring.live import keys
from ledge.monitoring.view import CPU, View, layout, screen, table
from tests.unit.test_metrics import job, node

TITLES = [column.title for column in COLUMNS]
MIB = float(1 << 20)


def lines(view: View, width: int = 80, height: int = 10, utf8: bool = True) -> list[str]:
    busy = job("slot1_2", 12, [512 * MIB, 0.0, 1.5, 0.0], owner="alice")
    busy.figures["ProcessesCount"] = 12345
    busy.pressure = {"cpu": 3.2, "io": 41.7}
    idle = job("slot1_10", 7, [None, None, 0.0, 2048.0], owner="bob")
    new = job(None, 8, [None, None, None, None], owner="o" * 40)
    shown = screen(node(idle, busy, new), view, "node", width, height, utf8)
    return ["".join(piece for piece, _ in line) for line in shown]


def test_every_line_fits_and_has_its_cells() -> None:
    title, header, first, second, third, *rest = lines(View())
    assert title.startswith("node  3 jobs  CPU 1.50  memory 512M")
    assert header.split() == TITLES
    assert first.split() == ["slot1_2", "12.0", "alice", "1.50", "███", "512M", "██", "0", "-", "-",
                             "-", "12k", "i42"]  # fmt: skip
    assert second.split()[:6] == ["slot1_10", "7.0", "bob", "0.00", "-", "2.0K"]
    assert third.split()[:4] == ["-", "8.0", "ooooooo", "-"]
    assert max(map(len, (header, first, second, third))) == 80
    assert rest[-1].startswith("sort:") and len([title, header, first, second, third, *rest]) == 10


@pytest.mark.parametrize("width", [80, 81, 100, 133, 200])
def test_a_wider_screen_is_used(width: int) -> None:
    widths, bar_width = layout(width)
    assert sum(widths) + len(widths) - 1 + 2 * (1 + bar_width) <= width
    assert (widths, bar_width) > layout(79) or width < 82
    assert max(map(len, lines(View(), width)[1:5])) <= width


def test_without_utf8_everything_is_ascii() -> None:
    assert "".join(lines(View(), utf8=False)).isascii()
    assert "###" in lines(View(), utf8=False)[2]


@pytest.mark.parametrize("number", range(len(COLUMNS)), ids=TITLES)
def test_sorted_by_any_column_either_way(number: int) -> None:
    values: list[float | None] = [1.0, 2.0, 3.0, 4.0]
    jobs = [job(f"slot1_{n}", n, [n * value for value in values if value], owner=f"user{n}")
            for n in (2, 10, 1)]  # fmt: skip
    for one in jobs:
        rank = float(str(one.job))
        for name in ("BlockWriteBytesPerSecond", "NetworkReceivedBytesPerSecond",
                     "NetworkSentBytesPerSecond", "ProcessesCount"):  # fmt: skip
            one.figures[name] = rank
        one.pressure = {"cpu": rank}
    unknown = job(None, 0, [None] * 4)
    unknown.job = unknown.owner = unknown.uid = None
    for backwards in (False, True):
        found = in_order([unknown, *jobs], COLUMNS[number], backwards)
        ranks = ["1.0", "10.0", "2.0"] if TITLES[number] == "OWNER" else ["1.0", "2.0", "10.0"]
        assert [one.job for one in found] == [*(ranks[::-1] if backwards else ranks), None]


def test_keys_choose_the_column_and_the_direction() -> None:
    view = View()
    assert (view.number, view.backwards) == (CPU, True)
    for column in COLUMNS:
        assert column.letter in column.title.lower()
        view.press(column.letter)
        assert view.column is column
        assert view.backwards is not column.is_text
        view.press("v")
        assert view.backwards is column.is_text
    assert len({column.letter for column in COLUMNS} | set("vq ")) == len(COLUMNS) + 3
    view.press("right")
    assert (view.number, view.reverse) == (0, False)
    view.press("left")
    assert view.number == len(COLUMNS) - 1
    view.press(" ")
    assert view.paused and "paused" in lines(view)[0]
    view.press("?")
    assert not view.ended
    view.press("q")
    assert view.ended


def test_more_jobs_than_lines_can_be_scrolled() -> None:
    view = View(TITLES.index("JOB"))
    assert "1-2 of 3 jobs" in lines(view, height=5)[0]
    for _ in range(9):
        view.press("down")
    title, _, first, second, _ = lines(view, height=5)
    assert "2-3 of 3 jobs" in title
    assert [line.split()[1] for line in (first, second)] == ["8.0", "12.0"]
    view.press("up")
    assert "1-2 of 3 jobs" in lines(view, height=5)[0]


def test_a_name_cannot_command_the_terminal() -> None:
    evil = job("slot1", 1, [1.0, 1.0, 1.0, 1.0], owner="\x1b[2J\r\nroot")
    assert evil.owner == "?[2J??root"


def test_a_table_cuts_nothing_off() -> None:
    one = job("slot1_2", 123456789, [MIB, 0.0, 0.5, 0.0], owner="o" * 40)
    header, row = table(node(one), View())
    assert header.split() == TITLES
    assert row.split()[:5] == ["slot1_2", "123456789.0", "o" * 40, "0.50", "1.0M"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (1000, "1.0K"), (1023.9, "1.0K"), (99.9 * 1024, "99.9K"),
     (999.4 * 1024, "999K"), (1000 * 1024, "1.0M"), (5e12, "4.5T")],
)  # fmt: skip
def test_sizes(value: float | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "    "), (0.0, "    "), (0.5, "██  "), (1.0, "████"), (7.0, "████"), (0.28, "█▏  "),
     (-1.0, "    ")],
)  # fmt: skip
def test_bars(share: float | None, text: str) -> None:
    assert bar(share, 4) == text


def test_numbers_in_names_are_numbers() -> None:
    names = ["slot1_10", "slot1_9", "slot1", "slot10", "slot2"]
    assert sorted(names, key=lambda name: natural(name) or ()) == [
        "slot1", "slot1_9", "slot1_10", "slot2", "slot10"
    ]  # fmt: skip


def test_keys_of_a_terminal() -> None:
    assert list(keys(b"c\x1b[A\x1bOD\x1b[5q\xff")) == ["c", "up", "left", "q", "\ufffd"]
