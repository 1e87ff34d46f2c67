"""What init tells the monitor, as lines on a pipe that the job never sees.

    born                     init is there (and so is the monitor, or writing would have failed)
    started                  the job is on its way
    failed ERRNO STEP        a step of the isolation failed; the job has not run
    exec ERRNO               execve(2) refused the job's command; nothing of it has run
    ended STATUS PID         how the job ended (wait(2)), and its PID in its own namespace
    io READ WRITTEN WHOLE    bytes (ledge/job/logical_io.py); WHOLE is 1 if nobody was left, else 0
    waited NUMBER ...        where there is no control group: the sums of ledge/job/waited_for.py

Each is one write of less than PIPE_BUF bytes, so lines from two writers never mix.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.logical_io import Told
    from ledge.job.waited_for import Sums


class Report:
    """What was told: at most one of `failed_step`, `exec_errno` and `status` counts."""

    __slots__ = (
        "started", "failed_step", "errno", "exec_errno", "status", "job_pid", "logical_io",
        "waited_for",
    )  # fmt: skip

    def __init__(self) -> None:
        self.started = False
        self.failed_step: str | None = None
        self.errno = 0
        self.exec_errno: int | None = None
        self.status: int | None = None
        self.job_pid = 0
        self.logical_io: Told = None
        self.waited_for: Sums | None = None


class Ending:
    """How the job ended: its wait status (wait(2)), or the errno of an execve that failed.

    `cpu_seconds` is the user and system time of all processes that were waited for; it is taken
    only where there is no control group to ask, else None. `logical_io` and, without a control
    group, `waited_for` are what init told, None if it could not.
    """

    __slots__ = ("status", "exec_errno", "cpu_seconds", "logical_io", "waited_for")

    def __init__(
        self,
        status: int,
        exec_errno: int | None,
        cpu_seconds: tuple[float, float] | None,
        logical_io: Told = None,
        waited_for: Sums | None = None,
    ) -> None:
        self.status = status
        self.exec_errno = exec_errno
        self.cpu_seconds = cpu_seconds
        self.logical_io = logical_io
        self.waited_for = waited_for


def tell_born(fd: int) -> None:
    """Report that init is there. Raises BrokenPipeError if the monitor is not."""
    posix.write(fd, b"born\n")


def tell_started(fd: int) -> None:
    """Report that every step of the isolation is done."""
    posix.write(fd, b"started\n")


def tell_failed(fd: int, errno: int, step: str) -> None:
    """Report that a step of the isolation failed."""
    posix.write(fd, b"failed %d %s\n" % (errno, step.encode()[:1024].replace(b"\n", b" ")))


def tell_exec_failed(fd: int, errno: int) -> None:
    """Report that execve(2) failed."""
    posix.write(fd, b"exec %d\n" % errno)


def tell_ended(fd: int, status: int, pid: int) -> None:
    """Report how the job ended."""
    posix.write(fd, b"ended %d %d\n" % (status, pid))


def tell_logical_io(fd: int, read: int, written: int, whole: bool) -> None:
    """Report what the job's processes read and wrote, and whether all of them were waited for."""
    posix.write(fd, b"io %d %d %d\n" % (read, written, whole))


def tell_waited_for(fd: int, sums: Sums) -> None:
    """Report what the kernel has added up of all processes that were waited for."""
    posix.write(fd, b"waited %s\n" % b" ".join([b"%d" % value for value in sums]))


def read_report(fd: int, report: Report) -> bool:
    """Add what has been told since, waiting if that is nothing; False at the end of the pipe."""
    text = posix.read(fd, 4096)
    add(report, text)
    return bool(text)


def add(report: Report, text: bytes) -> None:
    """Add what the lines tell."""
    for line in text.splitlines():
        kind, _, rest = line.partition(b" ")
        first, _, second = rest.partition(b" ")
        if kind == b"started":
            report.started = True
        elif kind == b"failed":
            report.errno, report.failed_step = int(first), second.decode("utf-8", "replace")
        elif kind == b"exec":
            report.exec_errno = int(first)
        elif kind == b"ended":
            report.status, report.job_pid = int(first), int(second)
        elif kind == b"io":
            written, _, whole = second.partition(b" ")
            report.logical_io = int(first), int(written), whole == b"1"
        elif kind == b"waited":
            report.waited_for = tuple([int(word) for word in rest.split()])
