"""What stays outside of the job's namespaces: the process that HTCondor knows as the job.

It starts init, passes on the signals that it gets, and, when the job and everything that the
job left behind are gone, ends exactly as the job ended.
"""

from __future__ import annotations

import _signal
import posix

from ledge.descriptors import release_descriptors
from ledge.errors import IsolationError
from ledge.init import Launch, start_init
from ledge.kernel import syscalls
from ledge.report import Report, read_report

_COREDUMP = 0x80


class Ending:
    """How the job ended: its wait status (wait(2)), or the errno of an execve that failed.

    `cpu_seconds` is the user and system time of all processes that were waited for; it is taken
    only where there is no control group to ask, else None.
    """

    __slots__ = ("status", "exec_errno", "cpu_seconds")

    def __init__(
        self, status: int, exec_errno: int | None, cpu_seconds: tuple[float, float] | None
    ) -> None:
        self.status = status
        self.exec_errno = exec_errno
        self.cpu_seconds = cpu_seconds


class Running:
    """A job on its way: start() it, do other things, confirm() that it runs, wait() for its end.

    The control groups of a job that did not come to run are removed here; those of one that ran
    are left to whoever reads its figures (ledge/settle.py).
    """

    __slots__ = ("launch", "init", "hear", "report")

    def __init__(self, launch: Launch, init: int, hear: int) -> None:
        self.launch = launch
        self.init = init
        self.hear = hear
        self.report = Report()

    def confirm(self, keep: tuple[int, ...] = ()) -> None:
        """Wait until the job is on its way, and let go of all that is the job's.

        From here on every descriptor but those of `keep` and our own is closed, so that a pipe
        that the job writes to is held open by nobody else. Raises IsolationError if a step
        failed; the job has not run then, and all descriptors are as they were.
        """
        while not self.report.started and read_report(self.hear, self.report):
            pass
        if not self.report.started:
            posix.waitpid(self.init, 0)
            self.launch.discard()
            if self.report.failed_step is None:
                raise IsolationError("init ended before it could start the job")
            raise _isolation_error(self.report.failed_step, self.report.errno)
        release_descriptors((self.hear, *self.launch.descriptors(), *keep))

    def wait(self) -> Ending:
        """Forward signals until the job and all that it left are gone; return how it ended.

        Raises IsolationError if init failed beside the job, so that nobody knows how that ended.
        """
        measure = not self.launch.descriptors()
        init_status, cpu_seconds = _forward_until_gone(self.init, measure)
        while read_report(self.hear, self.report):
            pass
        posix.close(self.hear)
        if self.report.exec_errno is not None:
            self.launch.discard()
        return _ending(self.report, init_status, cpu_seconds)


def start(launch: Launch) -> Running:
    """Start the job.

    All signals are blocked on entry and stay so. Raises IsolationError if there can be no such
    namespaces.
    """
    hear, tell = posix.pipe()
    try:
        init = start_init(launch, hear, tell)
    except OSError as error:
        launch.discard()
        step = f"create the namespaces {', '.join(launch.namespaces)}"
        raise _isolation_error(step, error.errno or 0) from None
    finally:
        posix.close(tell)
    return Running(launch, init, hear)


def _ending(report: Report, init_status: int, cpu_seconds: tuple[float, float] | None) -> Ending:
    if report.exec_errno is not None:
        return Ending(0, report.exec_errno, None)
    if report.status is not None:
        if report.status & _COREDUMP:
            _rename_core(report.job_pid)
        return Ending(report.status, None, cpu_seconds)
    if posix.WIFSIGNALED(init_status):
        # Nobody but SIGKILL can do that, and the kernel killed the job with its init.
        return Ending(_signal.SIGKILL, None, cpu_seconds)
    raise IsolationError("init failed while the job ran, and the kernel killed the job with it")


def _isolation_error(step: str, errno: int) -> IsolationError:
    from ledge.remedies import remedy  # only who fails pays for it

    return IsolationError(f"cannot {step}: {posix.strerror(errno)}", remedy(step, errno), errno)


def _forward_until_gone(init: int, measure: bool) -> tuple[int, tuple[float, float] | None]:
    """Pass signals on until init has ended; its wait status and, if wished, its CPU seconds."""
    signals = _signal.valid_signals()
    while True:
        told = _signal.sigwaitinfo(signals)
        if told.si_signo == _signal.SIGCHLD:
            if measure:
                pid, status, usage = posix.wait4(init, posix.WNOHANG)
                if pid:
                    return status, (usage.ru_utime, usage.ru_stime)
            else:
                pid, status = posix.waitpid(init, posix.WNOHANG)
                if pid:
                    return status, None
        elif told.si_code <= 0:
            posix.kill(init, told.si_signo)
        elif told.si_signo == _signal.SIGTSTP:
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
