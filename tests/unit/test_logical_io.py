"""What init says that the job read and wrote: parsed, told, and named."""

from __future__ import annotations

import os

import pytest

from ledge.job import report
from ledge.job.logical_io import LogicalIo, lines, parse_account

# Linux 6.18, of a shell.
ACCOUNT = b"""\
rchar: 6976
wchar: 12
syscr: 10
syscw: 1
read_bytes: 4096
write_bytes: 0
cancelled_write_bytes: 0
"""


def test_an_account() -> None:
    assert parse_account(ACCOUNT) == (6976, 12)


@pytest.mark.parametrize("text", [b"", b"rchar: 1\n", b"rchar: x\nwchar: 1\n", b"what is this"])
def test_garbage(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"rchar|invalid literal"):
        parse_account(text)


@pytest.fixture
def logical_io() -> LogicalIo:
    account = LogicalIo()
    if not account.fds:
        pytest.skip("CONFIG_TASK_IO_ACCOUNTING is off")
    return account


def copy(size: int) -> None:
    """Read and write that many bytes, in a process that is waited for."""
    pid = os.fork()
    if pid == 0:
        source, sink = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
        os.write(sink, os.read(source, size))
        os._exit(0)
    os.waitpid(pid, 0)


def test_what_children_did_is_counted_to_the_byte_and_ones_own_is_not(
    logical_io: LogicalIo,
) -> None:
    copy(7)
    logical_io.begin()
    with open("/dev/zero", "rb", buffering=0) as file:
        file.read(100_000)
    copy(12345)
    copy(55)
    assert logical_io.read() == (12400, 12400)


def test_no_account_is_no_zero() -> None:
    logical_io = LogicalIo()
    logical_io.fds = ()
    logical_io.begin()
    assert logical_io.read() is None


def test_what_init_tells_arrives() -> None:
    hear, tell = os.pipe()
    report.tell_ended(tell, 256, 7)
    report.tell_logical_io(tell, 10, 20, True)
    told = report.Report()
    report.read_report(hear, told)
    assert (told.status, told.job_pid, told.logical_io) == (256, 7, (10, 20, True))
    report.tell_logical_io(tell, 10, 20, False)
    report.read_report(hear, told)
    assert told.logical_io == (10, 20, False)
    os.close(hear)
    os.close(tell)


def test_lines_of_an_ad() -> None:
    assert lines((10, 20, True)) == b"LogicalReadBytes = 10\nLogicalWriteBytes = 20\n"
    assert lines((10, 20, False)).splitlines()[-1] == (
        b'Incomplete = "LogicalReadBytes, LogicalWriteBytes:'
        b' processes were left when the job had ended"'
    )
    assert lines(None).startswith(b'Incomplete = "LogicalReadBytes, LogicalWriteBytes: init ')
