"""The sshd of condor_ssh_to_job, which the starter starts by the wrapper: into its job.

ledged knows by the kernel which job is that of our parent, and its launcher starts sshd in there
(ledge/entering/session.py). Whatever keeps it out, it runs beside the job, as without us: sshd's
log, which is its standard error, says why.
"""

from __future__ import annotations

import _signal
import _socket
import posix
import select

from ledge.client import persistently
from ledge.errors import IsolationError, LedgeError
from ledge.job.handover import give
from ledge.job.inheritance import Inheritance
from ledge.wrapper.by_daemon import received
from ledge.wrapper.monitor import Running, end_as, isolation_error

# The user waits for the session.
_PATIENCE_SECONDS = 2.0
# An interactive job has little to do at its end.
_JOB_PATIENCE_SECONDS = 10.0
# Of HTCondor's directories for sessions, in the job's; and of our file in one.
_PREFIX, _BEGUN = b".condor_ssh_to_job_", b".ledge_begun"
_PATH_ONLY = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC


class _NoGroups:
    """A session has no control group that would be ours to read or to remove."""

    __slots__ = ()

    def descriptors(self) -> tuple[int, ...]:
        """None."""
        return ()

    def discard(self) -> None:
        """Nothing."""


class _Files:
    """The directory that HTCondor makes for a session: `path` is None if there is none."""

    __slots__ = ("path",)

    def __init__(self, inheritance: Inheritance) -> None:
        self.path: bytes | None = None
        for word in inheritance.argv[1:]:
            directory, _, name = word.rpartition(b"/")
            if name == b"sshd_config":
                self.path = directory

    def tell_shell(self, pid: bytes) -> None:
        """Have _CONDOR_JOB_PIDS be what the session can find in the job, and not the node's.

        The script with the job's environment (condor_ssh_to_job_sshd_setup) is read by the
        session's shell, when its client has proved who it is; and then says so in a file.
        """
        if self.path is not None:
            line = b"export _CONDOR_JOB_PIDS='%s'; : >\"${1%%/*}/%s\"\n" % (pid, _BEGUN)
            _append(self.path + b"/env.sh", line)

    def begun(self) -> bool:
        """Whether the session's shell has."""
        return self.path is not None and _BEGUN in _names(self.path)

    def is_last(self) -> bool:
        """Whether the job has no other session."""
        above, _, own = (self.path or b"").rpartition(b"/")
        names = [name for name in _names(above) if name.startswith(_PREFIX)]
        return names in ([], [own])


class _InteractiveJob:
    """The job of condor_submit -interactive, which does nothing but wait for its session.

    Its session's shell would end it (condor_ssh_to_job_shell_setup), and the session go along. So
    it is not told the PID, and the job is ended as soon as its session has.
    """

    __slots__ = ("pidfd",)

    def __init__(self, inheritance: Inheritance) -> None:
        first = (inheritance.variable(b"_CONDOR_JOB_PIDS") or b"").partition(b" ")[0]
        try:
            self.pidfd = posix.pidfd_open(int(first))
        except (OSError, ValueError):
            raise IsolationError("its job cannot be found") from None

    def end(self) -> None:
        """As that shell would: the job has ended before its sshd does, whose status is the last."""
        try:
            _signal.pidfd_send_signal(self.pidfd, _signal.SIGTERM)
        except OSError:
            return  # it has ended
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        ended.poll(_JOB_PATIENCE_SECONDS * 1000)


def run_in_job(inheritance: Inheritance, interactive: bool) -> None:
    """Run sshd in its job and end as it ends; returns if it cannot be there."""
    files = _Files(inheritance)
    try:
        job = _InteractiveJob(inheritance) if interactive else None
        running, pid = _started(inheritance)
    except (LedgeError, OSError, ValueError) as error:
        why = error.problem if isinstance(error, LedgeError) else error
        _complain(f"this session is not in the job's namespaces and limits: {why}")
        return
    status = int(_signal.SIGKILL)
    try:
        files.tell_shell(b"" if job else pid)
        # Lets go of the connection, which ends when sshd closes it.
        running.confirm((job.pidfd,) if job else ())
        status = running.wait().status
        if job and files.begun() and files.is_last():
            job.end()
    finally:
        end_as(status)


def _started(inheritance: Inheritance) -> tuple[Running, bytes]:
    """With the PID in the job of its first process. Raises UnavailableError, IsolationError."""
    answer = persistently(lambda connection: connection.request(b"enter"), _PATIENCE_SECONDS)
    if answer.status != b"done" or answer.fd is None:
        raise IsolationError(answer.body.decode("utf-8", "replace"))
    socket = _socket.socket(fileno=answer.fd)
    try:
        received(socket, b"ready\n")
        # A session keeps nothing in the scratch directory: any will do.
        give(socket, inheritance, posix.open("/", _PATH_ONLY))
        pidfd = received(socket, b"started\n")
    except OSError as error:
        raise isolation_error("hand the session over to ledged", error.errno or 0) from None
    finally:
        socket.detach()
    if pidfd is None:
        raise IsolationError("ledged's launcher did not say which process is the session's")
    running = Running(_NoGroups(), None, pidfd, answer.fd)
    running.report.started = True
    return running, answer.body


def _names(directory: bytes) -> list[bytes]:
    try:
        return posix.listdir(directory)
    except OSError:
        return []  # it has been removed


def _append(path: bytes, line: bytes) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_APPEND | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return  # another sshd than HTCondor's own set-up has
    try:
        posix.write(fd, line)
    except OSError:
        pass  # the disk is full
    finally:
        posix.close(fd)


def _complain(problem: str) -> None:
    try:
        posix.write(2, f"condor-ledge: {problem}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # there is no log
