"""Having a job started by ledged: the wrapper's part of the way from reserve to settle."""

from __future__ import annotations

import _socket
import posix
from sys import byteorder

from ledge.client import PATIENCE_SECONDS, Answer, Connection, UnavailableError, persistently
from ledge.errors import IsolationError
from ledge.job import report
from ledge.job.handover import give
from ledge.job.inheritance import Inheritance
from ledge.job.logical_io import lines
from ledge.job.report import Ending
from ledge.kernel import syscalls
from ledge.wrapper.monitor import Running, isolation_error
from ledge.wrapper.universe import read_ad

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from ledge.job.relay import Relay

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
        if not self.name:
            return  # HTCondor makes none here
        from ledge.job.leaf import find_slice

        found = find_slice()
        if found is not None:
            found[0].remove(self.name)


class LeftAloneError(Exception):
    """The job is to run without what could not be had; the reason is the text."""


def start_job(
    inheritance: Inheritance, scratch: bytes, ad: bytes
) -> tuple[Running, bytes, bytes]:
    """Have the job started, so that it is on its way.

    Returns with it the name of its control group in the slice, empty where HTCondor makes none, and
    the attributes that it has from its start on, as lines of an ad. Raises UnavailableError if
    ledged does not answer, IsolationError if it refuses or fails, LeftAloneError if the plan says
    that the job runs all the same.
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
    on_failure, group, *network = first_line.split(b" ")
    # A job with ports that can be reached from outside must learn at which of the node's.
    inheritance.environ += [b"_LEDGE_NETWORK_PORTS=" + ports for ports in network[1:]]
    try:
        running = _hand_over(answer.fd, inheritance, directory, group)
        if network:
            running.relay = _relay(answer.fd)
        running.confirm()
        if not group:
            running.pid = _pid(running.pidfd)  # while our own /proc is ours to read
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
        pidfd = received(socket, b"init")
        assert pidfd is not None
        give(socket, inheritance, scratch)
    except OSError as error:
        raise isolation_error("hand the job over to ledged's launcher", error.errno or 0) from None
    finally:
        socket.detach()
    return Running(_Groups(group), None, pidfd, fd)


def received(socket: _socket.socket, message: bytes) -> int | None:
    """The descriptor that comes with a message of the launcher's process, if one does.

    Raises IsolationError if that fails instead, OSError.
    """
    data, ancillary, _, _ = socket.recvmsg(4096, _socket.CMSG_LEN(_INT_BYTES))
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fd = int.from_bytes(payload[:_INT_BYTES], byteorder)
            posix.set_inheritable(fd, False)
            return fd
    if data == message:
        return None
    told = report.Report()
    report.add(told, data)
    if told.failed_step is None:
        raise IsolationError("ledged's launcher ended before it could start the job")
    raise isolation_error(told.failed_step, told.errno)


def _pid(pidfd: int) -> int | None:
    """The PID of a pidfd, as proc(5) has it; None if that cannot be had."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
            _, _, rest = file.readall().partition(b"\nPid:\t")
    except OSError:
        return None
    pid = rest.partition(b"\n")[0]
    return int(pid) if pid.isdigit() else None


def _relay(fd: int) -> Relay | None:
    """What passes chirp on to the starter, if the job has chirp. Raises IsolationError."""
    from ledge.job.relay import Relay  # only a job with a network of its own pays for it

    socket = _socket.socket(fileno=fd)
    try:
        listener = received(socket, b"relay\n")
        return None if listener is None else Relay(listener)
    except OSError as error:
        raise isolation_error("take over chirp from the job's network", error.errno or 0) from None
    finally:
        socket.detach()


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
