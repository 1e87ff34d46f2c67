"""The jobs that run on this node, as ledged tells root of them, and their processes.

What is said of a process is the kernel's word, but for its command line and its name: a process
chooses both. The job's id is that of the job ad which ledged was shown when it reserved.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

from ledge.cli.asking import pids_in, status_of
from ledge.daemon.peer import Process, mount_point
from ledge.errors import LedgeError
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.pid_namespaces import pid_within
from ledge.kernel.proc import read

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class RunningJob:
    """A job as ledged tells of it; `job` and `slot` are None where ledged does not know them.

    `logged_wrapper` and `logged_init` are the PIDs that HTCondor's logs have, where HTCondor is in
    a PID namespace of its own.
    """

    def __init__(self, told: dict[str, object]) -> None:
        self.told = told
        self.job = _text(told["job"])
        self.slot = _text(told["slot"])
        self.uid = int(str(told["uid"]))
        self.wrapper = int(str(told["wrapper"]))
        self.init = None if told["init"] is None else int(str(told["init"]))
        self.logged_wrapper, self.logged_init = told.get("logged_wrapper"), told.get("logged_init")
        self.slice = os.fsencode(str(told["slice"]))
        self.started = int(str(told["started"]))

    def is_called(self, word: str) -> bool:
        """Whether it is meant by a job's id (12.3 or 12), a slot (slot1_1, slot1_1@node), or its
        slice, the name that HTCondor has given it last in the path.
        """
        if os.fsencode(word) == self.slice.rpartition(b"/")[2]:
            return True
        if self.job is not None and word in (self.job, self.job.partition(".")[0]):
            return True
        return self.slot is not None and word.partition("@")[0] == self.slot

    def owner(self) -> str:
        """The name of its user, or the number of one who has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def __str__(self) -> str:
        place = self.slot or os.fsdecode(self.slice.rpartition(b"/")[2])
        return f"{self.job or 'job ?'} of {self.owner()} in {place}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def running_jobs(socket: str) -> list[RunningJob]:
    """Raises LedgeError."""
    told = status_of(socket).get("running")
    if told is None:
        remedy = "restart it (condor_restart -daemon ledged)"
        raise LedgeError("ledged is older than this command, and tells of no job", remedy)
    return [RunningJob(one) for one in told]


def the_job(jobs: list[RunningJob], word: str) -> RunningJob:
    """The one that a job's id or a slot means. Raises LedgeError."""
    found = [job for job in jobs if job.is_called(word)]
    if len(found) == 1:
        return found[0]
    there = ", ".join([str(job) for job in found or jobs]) or "none"
    if found:
        raise LedgeError(f"{word} means more than one job here: {there}")
    raise LedgeError(f"no job {word} runs here by ledged; those that do: {there}")


class JobProcess:
    """A process in a job's slice: `within` is its PID to the job, None for one outside of it."""

    def __init__(self, process: Process, within: int | None) -> None:
        """Raises OSError, ProcessLookupError included."""
        status = process.status()
        name, _, rest = (read(process.proc, "stat") or b"").rpartition(b")")
        fields = rest.split()
        self.pid = process.pid
        self.within = within
        self.uid = int(status[b"Uid"].split()[0])
        self.state = fields[0].decode("ascii")
        self.cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        self.rss_bytes = int(fields[21]) * _PAGE_BYTES
        words = (read(process.proc, "cmdline") or b"").split(b"\0")
        command = b" ".join(words) or b"[" + name.partition(b"(")[2] + b"]"
        self.command = command.decode("utf-8", "replace")


def processes_of(job: RunningJob) -> Iterator[JobProcess]:
    """All processes in the job's slice, the wrapper's included; those that end meanwhile are not.

    Raises LedgeError if the slice has gone.
    """
    try:
        slice_ = Cgroup.open(mount_point() + job.slice)
    except OSError as error:
        raise LedgeError(f"the group of {job} cannot be read: {error.strerror}") from None
    try:
        init = Process(job.init) if job.init else None
    except OSError:
        init = None  # it has ended since ledged was asked
    try:
        for pid in sorted(pids_in(slice_)):
            found = _job_process(pid, init)
            if found is not None:
                yield found
    finally:
        slice_.close()
        if init is not None:
            init.close()


def _job_process(pid: int, init: Process | None) -> JobProcess | None:
    try:
        process = Process(pid)
    except OSError:
        return None
    try:
        within = pid_within(process.proc, init.proc) if init else None
        return JobProcess(process, within)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    finally:
        process.close()
