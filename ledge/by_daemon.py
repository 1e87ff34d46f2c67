"""Having a job started by ledged: the wrapper's part of the way from reserve to settle."""

from __future__ import annotations

import _socket
import posix
from sys import byteorder

from ledge import report
from ledge.client import PATIENCE_SECONDS, Answer, Connection, UnavailableError, persistently
from ledge.errors import IsolationError
from ledge.handover import give
from ledge.inheritance import Inheritance
from ledge.kernel import syscalls
from ledge.logical_io import lines
from ledge.monitor import Ending, Running, isolation_error
from ledge.universe import read_ad

WITHOUT_DAEMON = "/run/condor-ledge/without_daemon"
# The wrapper can read the figures itself; only what ledged knows beside them would be missing.
_SETTLE_SECONDS = 15.0
_INT_BYTES = 4


class _Groups:
    """The job's control group `name`, which ledged reads and removes, as the wrapper knows it."""

    __slots__ = ("name",)

    def __init__(self, name: bytes) -> None:
        self.name = name

    def descriptors(self) -> tuple[int, ...]:
        """None: ledged has its own."""
        return ()

    def discard(self) -> None:
        """Remove it where the job did not come to run, as the user may."""
        from ledge.leaf import find_slice

        found = find_slice()
        if found is not None:
            found[0].remove(self.name)


class LeftAloneError(Exception):
    """The job is to run without what could not be had; the reason is the text."""


def start_job(
    inheritance: Inheritance, scratch: bytes, ad: bytes
) -> tuple[Running, bytes, bytes]:
    """Have the job started, so that it is on its way.

    Returns with it the name of its control group in the slice, and the attributes that it has from
    its start on, as lines of an ad. Raises UnavailableError if ledged does not answer,
    IsolationError if it refuses or fails, LeftAloneError if the plan says that the job runs all the
    same.
    """
    directory = _open(scratch)

    def launch(connection: Connection) -> Answer:
        answer = connection.request(b"launch")
        if answer.status == b"unreserved":
            _reserve(connection, inheritance, ad)
            answer = connection.request(b"launch")
        return answer

    answer = persistently(launch, PATIENCE_SECONDS)
    if answer.status == b"run":
        raise LeftAloneError(_text(answer.body))
    if answer.status != b"done" or answer.fd is None:
        raise IsolationError(f"ledged refused to start the job: {_text(answer.body)}")
    first_line, _, attributes = answer.body.partition(b"\n")
    on_failure, _, group = first_line.partition(b" ")
    try:
        running = _hand_over(answer.fd, inheritance, directory, group)
        running.confirm()
    except IsolationError as error:
        if on_failure == b"run":
            raise LeftAloneError(str(error)) from None
        raise
    # Whoever could trace the wrapper could settle in its name while the job runs.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    return running, group, attributes


def settle(ending: Ending) -> bytes | None:
    """Have the last reading taken; the figures as lines of an ad, None if ledged cannot say.

    To what ledged knows is added what init told us.
    """
    try:
        answer = persistently(lambda connection: connection.request(b"settle"), _SETTLE_SECONDS)
    except UnavailableError:
        return None
    return answer.body + lines(ending.logical_io) if answer.status == b"done" else None


def choice_without_daemon() -> str:
    """What the admin wants while ledged does not answer: hold, requeue or run.

    ledged leaves the policy's word there. Where it never ran, nobody said that jobs may run
    without it.
    """
    try:
        with open(WITHOUT_DAEMON, "rb", buffering=0) as file:
            return file.read(16).decode("ascii", "replace").strip()
    except OSError:
        return "hold"


def _reserve(connection: Connection, inheritance: Inheritance, ad: bytes) -> None:
    """For a job whose HookKeyword kept our hook away, or when ledged was started after it."""
    machine = read_ad(inheritance, b"_CONDOR_MACHINE_AD")
    answer = connection.request(b"reserve", ad + b"\0" + machine)
    if answer.status != b"done":
        raise IsolationError(_text(answer.body))


def _open(scratch: bytes) -> int:
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        return posix.open(scratch, flags)
    except OSError as error:
        step = f"find the job's scratch directory {_text(scratch)}"
        raise isolation_error(step, error.errno or 0) from None


def _hand_over(fd: int, inheritance: Inheritance, scratch: int, group: bytes) -> Running:
    socket = _socket.socket(fileno=fd)
    try:
        pidfd = _init(socket)
        give(socket, inheritance, scratch)
    except OSError as error:
        raise isolation_error("hand the job over to ledged's launcher", error.errno or 0) from None
    finally:
        socket.detach()
    return Running(_Groups(group), None, pidfd, fd)


def _init(socket: _socket.socket) -> int:
    """A pidfd of init, which it sends when it is ready. Raises IsolationError if it fails."""
    data, ancillary, _, _ = socket.recvmsg(4096, _socket.CMSG_LEN(_INT_BYTES))
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            pidfd = int.from_bytes(payload[:_INT_BYTES], byteorder)
            posix.set_inheritable(pidfd, False)
            return pidfd
    told = report.Report()
    report.add(told, data)
    if told.failed_step is None:
        raise IsolationError("ledged's launcher ended before it could start the job")
    raise isolation_error(told.failed_step, told.errno)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
