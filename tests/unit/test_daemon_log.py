"""LedgeLog: lines in HTCondor's style, rotated; and nothing that a client says breaks a line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledge.daemon.log import Log


def test_a_line_has_the_stamp_of_htcondor_s_logs(tmp_path: Path) -> None:
    Log(str(tmp_path / "log")).write("something happened")
    line = (tmp_path / "log").read_text()
    assert re.fullmatch(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d something happened\n", line)


def test_a_text_with_newlines_is_one_line(tmp_path: Path) -> None:
    Log(str(tmp_path / "log")).write("job 1.0\n11/23/26 00:00:00 forged \x1b[31m\udcff")
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1
    assert b"\x1b" not in (tmp_path / "log").read_bytes()


def test_rotation_keeps_the_old_file(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), maximum_bytes=100)
    for number in range(10):
        log.write(f"line {number} " + "x" * 40)
    assert (tmp_path / "log").stat().st_size <= 200
    assert (tmp_path / "log.old").exists()
    assert "line 9" in (tmp_path / "log.old").read_text() + (tmp_path / "log").read_text()


def test_follows_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Log(str(tmp_path / "log"))


def test_a_full_disk_is_survived() -> None:
    log = Log("/dev/full")
    log.write("lost")
