"""LedgeLog: lines in HTCondor's style, rotated; and nothing that a client says breaks a line."""

from __future__ import annotations

import contextlib
import os
import re
import resource
from pathlib import Path

import pytest

from ledge.log import Log


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


def test_a_rotation_without_a_descriptor_left_is_made_up_for(tmp_path: Path) -> None:
    """Else all that follows would go to the old file, which nobody rotates."""
    path = tmp_path / "LedgeLog"
    log = Log(str(path), 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (log.fd + 1, hard))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(log.fd))
        log.write("x" * 200)
        assert not path.exists()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    log.write("y")
    log.write("z")
    assert path.read_text().endswith("z\n")
    assert "x" * 200 in (tmp_path / "LedgeLog.old").read_text()
    os.close(log.fd)
