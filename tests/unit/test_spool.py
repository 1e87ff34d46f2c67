"""The spool: atomic, bounded, and ledged opens nothing that it finds there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledge.recorder.spool import (
    JOB,
    LARGEST_FILE,
    LAST,
    LIVE,
    START,
    Name,
    Spool,
    job_key,
    make_spool,
    parse_name,
)

KEY = job_key(4711, 123456)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    path = str(tmp_path / "lib" / "spool")
    make_spool(path, os.geteuid(), os.getegid())
    return Spool(path)


def files(spool: Spool) -> list[str]:
    return sorted(os.listdir(spool.path))


def test_the_directory_is_closed_to_others(spool: Spool) -> None:
    assert os.stat(spool.path).st_mode & 0o777 == 0o700


def test_a_directory_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o777)
    make_spool(str(tmp_path / "spool"), os.geteuid(), os.getegid())
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1-2.live", Name("1-2", LIVE)),
        ("1-2.final", Name("1-2", LAST)),
        ("1-2.start", Name("1-2", START)),
        ("1-2.job", Name("1-2", JOB)),
        ("1-2.job.77", None),
        (".new", None),
        ("1-.live", None),
        ("-2.live", None),
        ("../1-2.live", None),
        ("1-2.other", None),
        ("1" * 60 + "-2.live", None),
    ],
)
def test_names(text: str, name: Name | None) -> None:
    assert parse_name(text) == name


def test_figures_are_read_as_they_were_put(spool: Spool) -> None:
    spool.put(KEY, {"CpuUserSeconds": 1.5, "Isolation": "pid"}, final=False)
    entry = spool.read(Name(KEY, LIVE))
    assert entry is not None
    assert 'Isolation = "pid"' in entry.record
    assert 'Reading = "running"' in entry.record


def test_the_newest_take_the_place_of_those_before(spool: Spool) -> None:
    for number in (1, 2):
        spool.put(KEY, {"N": number}, final=False)
    assert files(spool) == [f"{KEY}.live"]
    entry = spool.read(Name(KEY, LIVE))
    assert entry is not None and "N = 2" in entry.record


def test_the_last_figures_wait_until_they_are_removed(spool: Spool) -> None:
    spool.put(KEY, {"N": 1}, final=False)
    assert not spool.holds(KEY)
    spool.put(KEY, {"N": 2}, final=True)
    assert spool.holds(KEY)
    spool.remove(Name(KEY, LAST))
    assert not spool.holds(KEY)


def test_what_was_replaced_meanwhile_stays(spool: Spool) -> None:
    spool.put(KEY, {"N": 1}, final=False)
    entry = spool.read(Name(KEY, LIVE))
    assert entry is not None
    spool.put(KEY, {"N": 2}, final=False)
    spool.remove(entry.name, entry.identity)
    newer = spool.read(entry.name)
    assert newer is not None and "N = 2" in newer.record
    spool.remove(newer.name, newer.identity)
    assert files(spool) == []


def test_removing_twice_is_nothing(spool: Spool) -> None:
    spool.remove(Name(KEY, LIVE))
    assert spool.read(Name(KEY, LIVE)) is None


def test_live_figures_make_room_first_and_the_oldest_of_them(tmp_path: Path) -> None:
    small = Spool(str(tmp_path), most_files=3)
    for number, final in ((1, True), (2, False), (3, False)):
        small.put(job_key(number, 1), {}, final)
        os.utime(tmp_path / f"{number}-1.{LAST if final else LIVE}", (number, number))
    small.put(job_key(4, 1), {}, final=True)
    assert files(small) == ["1-1.final", "3-1.live", "4-1.final"]
    small.put(job_key(5, 1), {}, final=True)
    small.put(job_key(6, 1), {}, final=True)
    assert files(small) == ["4-1.final", "5-1.final", "6-1.final"]
    assert small.dropped == {START: 0, LIVE: 2, LAST: 1}


def test_what_the_recorder_remembers_is_not_in_the_way(tmp_path: Path) -> None:
    small = Spool(str(tmp_path), most_files=1)
    for number in range(5):
        (tmp_path / f"{number}-1.job").touch()
    small.put(KEY, {}, final=True)
    assert small.holds(KEY)
    assert small.dropped[LAST] == 0


def test_a_link_that_was_put_there_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    for name in (".new", f"{KEY}.final"):
        os.symlink(target, os.path.join(spool.path, name))
    spool.put(KEY, {"N": 1}, final=True)
    assert target.read_text() == "precious"
    entry = spool.read(Name(KEY, LAST))
    assert entry is not None and "N = 1" in entry.record


def test_what_is_no_file_is_not_read(spool: Spool) -> None:
    os.mkfifo(os.path.join(spool.path, f"{KEY}.live"))
    assert spool.read(Name(KEY, LIVE)) is None


def test_a_record_that_a_full_disk_cut_off_is_not_read(spool: Spool) -> None:
    Path(spool.path, f"{KEY}.live").write_text("[ A = 1; B")
    assert spool.read(Name(KEY, LIVE)) is None


def test_a_record_of_a_hundred_attributes_fits(spool: Spool) -> None:
    spool.put(KEY, {f"Figure{number}": "x" * 480 for number in range(100)}, final=True)
    assert os.stat(os.path.join(spool.path, f"{KEY}.final")).st_size < LARGEST_FILE
    assert spool.read(Name(KEY, LAST)) is not None
