"""What stays outside of the job's namespaces: the process that HTCondor knows as the job.

It starts init, passes on the signals that it gets, and, when the job and everything that the
job left behind are gone, ends exactly as the job ended.
"""

from __future__ import annotations

import _signal
import posix
import select

from ledge.errors import IsolationError
from ledge.job.report import Ending, Report, read_report
from ledge.kernel import syscalls
from ledge.kernel.descriptors import release_descriptors
from ledge.kernel.signalfd import open_signals, read_signals

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Protocol

    from ledge.job.relay import Relay
    from ledge.kernel.signalfd import Told
    from ledge.tracking.start import Tracker

    class Groups(Protocol):
        """The control groups that were made for the job."""

        def descriptors(self) -> tuple[int, ...]:
            """The descriptors that whoever reads the figures at the end must keep."""

        def discard(self) -> None:
            """Remove the control groups; whatever was in them has gone."""


_COREDUMP = 0x80


class Running:
    """A job on its way: confirm() that it runs, wait() for its end.

    `init` is its init's PID if that is our child, else None; `pid` is that PID if it is to be
    known, `pidfd` is init's in either case, and `hear` is where init reports
    (ledge/job/report.py). The control groups of a job that did not come to run are removed here;
    those of one that ran are left to whoever reads its figures. `relay` is there for a job that has
    a network of its own.
    """

    __slots__ = ("groups", "init", "pid", "pidfd", "hear", "report", "relay")

    def __init__(self, groups: Groups, init: int | None, pidfd: int, hear: int) -> None:
        self.groups = groups
        self.init = self.pid = init
        self.pidfd = pidfd
        self.hear = hear
        self.report = Report()
        self.relay: Relay | None = None

    def confirm(self, keep: tuple[int, ...] = ()) -> None:
        """Wait until the job is on its way, and let go of all that is the job's.

        From here on every descriptor but those of `keep` and our own is closed, so that a pipe
        that the job writes to is held open by nobody else. Raises IsolationError if a step
        failed; the job has not run then, and all descriptors are as they were.
        """
        while not self.report.started and read_report(self.hear, self.report):
            pass
        if not self.report.started:
            self._reap()
            self.groups.discard()
            if self.report.failed_step is None:
                raise IsolationError("init ended before it could start the job")
            raise isolation_error(self.report.failed_step, self.report.errno)
        if self.relay is not None:
            keep = (*keep, *self.relay.descriptors())
        release_descriptors((self.hear, self.pidfd, *self.groups.descriptors(), *keep))

    def tracked(self, scratch: bytes) -> Tracker | None:
        """A tracker of the job, where it has no control group; None where it has.

        `scratch` is its scratch directory, or empty.
        """
        if self.pid is None or self.groups.descriptors():
            return None
        from ledge.tracking.start import Tracker

        # By the job's end it may be another version.
        from ledge.usage import of_processes  # noqa: F401

        return Tracker(self.pid, scratch)

    def wait(self) -> Ending:
        """Forward signals until the job and all that it left are gone; return how it ended.

        Raises IsolationError if init failed beside the job, so that nobody knows how that ended.
        """
        _forward_until_gone(self.pidfd, self.relay)
        init_status, cpu_seconds = self._reap()
        while read_report(self.hear, self.report):
            pass
        posix.close(self.hear)
        if self.report.exec_errno is not None:
            self.groups.discard()
        return _ending(self.report, init_status, cpu_seconds)

    def _reap(self) -> tuple[int | None, tuple[float, float] | None]:
        """The wait status of init and the CPU seconds of all; None for what is not ours to know."""
        if self.init is None:
            return None, None
        _, status, usage = posix.wait4(self.init, 0)
        measured = None if self.groups.descriptors() else (usage.ru_utime, usage.ru_stime)
        return status, measured


def _ending(
    report: Report, init_status: int | None, cpu_seconds: tuple[float, float] | None
) -> Ending:
    if report.exec_errno is not None:
        return Ending(0, report.exec_errno, None)
    if report.status is not None:
        if report.status & _COREDUMP:
            _rename_core(report.job_pid)
        return Ending(report.status, None, cpu_seconds, report.logical_io, report.waited_for)
    if init_status is None or posix.WIFSIGNALED(init_status):
        # Nobody but SIGKILL can do that, and the kernel killed the job with its init.
        return Ending(_signal.SIGKILL, None, cpu_seconds)
    raise IsolationError("init failed while the job ran, and the kernel killed the job with it")


def isolation_error(step: str, errno: int) -> IsolationError:
    """The error for a step that failed, with what an admin can do about it."""
    from ledge.job.remedies import remedy  # only who fails pays for it

    return IsolationError(f"cannot {step}: {posix.strerror(errno)}", remedy(step, errno), errno)


def _forward_until_gone(pidfd: int, relay: Relay | None) -> None:
    """Pass signals on to init until it has ended, and with it all of its PID namespace."""
    # SIGCHLD is not the job's: our own children are nobody's business.
    signals = open_signals(_signal.valid_signals() - {_signal.SIGCHLD})
    poll = select.poll()
    for fd in (pidfd, signals):
        poll.register(fd, select.POLLIN)
    if relay is not None:
        relay.attach(poll)
    while True:
        ready = dict(poll.poll())
        if pidfd in ready:
            break
        for told in read_signals(signals) if signals in ready else ():
            _forward(pidfd, told)
        if relay is not None:
            for fd, events in ready.items():
                relay.attend(fd, events)
    posix.close(signals)


def _forward(pidfd: int, told: Told) -> None:
    if told.code <= 0:
        try:
            _signal.pidfd_send_signal(pidfd, told.signo)
        except ProcessLookupError:
            pass  # gone in this moment
    elif told.signo == _signal.SIGTSTP:
        # From the terminal, as the job has it too: stop with it, so that the shell sees it.
        posix.kill(posix.getpid(), _signal.SIGSTOP)


def _rename_core(job_pid: int) -> None:
    """Name a core file after the PID that HTCondor knows, where the starter looks for it.

    The kernel (core_uses_pid) named it after the job's PID in its own namespace.
    """
    try:
        posix.rename(b"core.%d" % job_pid, b"core.%d" % posix.getpid())
    except OSError:
        pass  # none was written, or core_pattern names it otherwise


def end_as(status: int) -> None:
    """End as the job ended: with its exit code, or by the signal that killed it.

    The job has dumped core if it should; a second core, of this process, is not made.
    """
    if posix.WIFSIGNALED(status):
        signal = posix.WTERMSIG(status)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        # The signals that libc keeps for itself (32, 33) are neither blocked nor handled.
        if signal != _signal.SIGKILL and signal in _signal.valid_signals():
            _signal.signal(signal, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {signal})
        posix.kill(posix.getpid(), signal)
    posix._exit(posix.WEXITSTATUS(status))
