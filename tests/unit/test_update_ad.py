"""LedgeUsage beside what the startd left in .update.ad, and only where no job can write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.publish.update_ad import UpdateAd, open_update_ad

STARTD = b'Activity = "Busy"\nCpusUsage = 0.5\nName = "slot1_1@node"\n'
SOMEBODY = os.geteuid() + 1


class Starter:
    """The directories of a starter, and what stands for its directory in /proc."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "dir_1"
        self.scratch = self.directory / "scratch"
        self.scratch.mkdir(parents=True)
        self.htcondor = self.directory / "htcondor"
        self.htcondor.mkdir()
        for directory in (self.directory, self.htcondor):
            directory.chmod(0o755)
        self.file = self.htcondor / ".update.ad"
        (path / "cwd").symlink_to(self.scratch)
        self.proc = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def open(self, uid: int = SOMEBODY) -> UpdateAd | None:
        return open_update_ad(self.proc, uid)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    os.close(starter.proc)


def write(starter: Starter, *records: str) -> bytes:
    ad = starter.open()
    assert ad is not None
    for record in records:
        ad.write(record)
    ad.close()
    return starter.file.read_bytes()


def test_what_the_startd_wrote_stays(starter: Starter) -> None:
    starter.file.write_bytes(STARTD)
    assert write(starter, "[ A = 1 ]") == STARTD + b"LedgeUsage = [ A = 1 ]\n"


def test_before_the_startd_has_written(starter: Starter) -> None:
    assert write(starter, "[ A = 1 ]") == b"LedgeUsage = [ A = 1 ]\n"


def test_the_newest_takes_the_place_of_the_one_before(starter: Starter) -> None:
    starter.file.write_bytes(STARTD)
    assert write(starter, "[ A = 1 ]", "[ A = 2 ]") == STARTD + b"LedgeUsage = [ A = 2 ]\n"


def test_an_empty_line_would_end_the_ad(starter: Starter) -> None:
    starter.file.write_bytes(STARTD + b"\n")
    assert b"\n\n" not in write(starter, "[ A = 1 ]")


def test_an_attribute_of_a_similar_name_stays(starter: Starter) -> None:
    starter.file.write_bytes(b"LedgeUsageOther = 1\n")
    assert write(starter, "[]").startswith(b"LedgeUsageOther = 1\n")


def test_everybody_may_read_it(starter: Starter) -> None:
    mask = os.umask(0o077)
    try:
        write(starter, "[]")
    finally:
        os.umask(mask)
    assert starter.file.stat().st_mode & 0o777 == 0o644


def test_what_a_ledged_that_died_left_is_no_obstacle(starter: Starter) -> None:
    (starter.htcondor / ".update.ad.ledge").write_text("half a rec")
    assert write(starter, "[]") == b"LedgeUsage = []\n"


def test_no_link_is_followed(starter: Starter, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (starter.htcondor / ".update.ad.ledge").symlink_to(target)
    starter.file.symlink_to(target)
    ad = starter.open()
    assert ad is not None
    with pytest.raises(OSError, match="symbolic links"):
        ad.write("[]")
    ad.close()
    assert target.read_text() == "precious"


def test_a_directory_of_the_job_s_user(starter: Starter) -> None:
    assert starter.open(uid=os.geteuid()) is None


@pytest.mark.parametrize("which", ["directory", "htcondor"])
def test_a_directory_that_others_can_write(starter: Starter, which: str) -> None:
    getattr(starter, which).chmod(0o775)
    assert starter.open() is None


def test_no_such_directory_before_htcondor_25(starter: Starter) -> None:
    starter.htcondor.rmdir()
    assert starter.open() is None
