"""A stand-in for HTCondor's starter: it spawns the wrapper as the starter does, and no more.

A session and process group of its own, the job's user, the job's control group, the environment
that the wrapper knows. The starter itself is tested on the pool (tests/pool).
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import select
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from ledge.kernel import syscalls
from tests.kernel.cgroups import Slice

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE = 4
_MS_BIND = 0x1000
PATIENCE_SECONDS = 20.0

# As the starter writes them into the scratch directory, in the old format.
JOB_AD = 'ClusterId = 1\nProcId = 0\nOwner = "nobody"\nJobUniverse = 5\nRequestCpus = 1\n'
MACHINE_AD = 'Name = "slot1@test"\nCpus = 1\nMemory = 1024\n'


# Signals that libc keeps for itself: its own functions refuse to touch them.
SIGNALS_OF_LIBC = (32, 33)
_SYS_RT_SIGACTION = 13 if platform.machine() == "x86_64" else 134


def set_default_disposition(number: int) -> None:
    """Set SIG_DFL by the system call itself."""
    sigaction = bytes(32)  # handler, flags, restorer and mask, all zero
    _libc.syscall(_SYS_RT_SIGACTION, number, sigaction, None, ctypes.c_size_t(8))


class User:
    """Whom a job belongs to."""

    def __init__(self, name: str, uid: int, gid: int) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid

    @classmethod
    def named(cls, name: str) -> User:
        """One of this machine's."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    def become(self) -> None:
        """Drop to the user, in a child of root's."""
        if os.geteuid() == 0 and self.uid != 0:
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
            _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self stays root's until execve


class Process:
    """A process that was started: its PID, how it ended, what it wrote."""

    def __init__(self, pid: int, directory: Path) -> None:
        self.pid = pid
        self.directory = directory
        self.status: int | None = None

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The wait status; a process that does not end in time is killed, and that is a failure."""
        if self.status is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                ended = select.select([pidfd], [], [], seconds)[0]
            finally:
                os.close(pidfd)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
            _, self.status = os.waitpid(self.pid, 0)
            assert ended, f"still running after {seconds} s"
        return self.status

    @property
    def output(self) -> bytes:
        return (self.directory / "_condor_stdout").read_bytes()

    @property
    def error(self) -> bytes:
        return (self.directory / "_condor_stderr").read_bytes()

    @property
    def wrapper_error(self) -> bytes:
        """What the wrapper told the starter."""
        path = self.directory.parent / "wrapper_error"
        return path.read_bytes() if path.exists() else b""

    def check(self) -> bytes:
        """The output of a process that is to end well."""
        status = self.wait()
        assert (status, self.wrapper_error, self.error) == (0, b"", b"")
        return self.output

    def wait_for(self, name: str) -> None:
        """Wait until the job has made a file in its directory."""
        for _ in range(int(PATIENCE_SECONDS / 0.005)):
            if (self.directory / name).exists():
                return
            time.sleep(0.005)
        raise AssertionError(f"no {name} in the directory of the job: {self.error!r}")


class Starter:
    """Starts commands as one user's jobs, each in a scratch directory of its own."""

    def __init__(self, wrapper: Path, execute: Path, user: User, slice_: Slice | None) -> None:
        self.wrapper = wrapper
        self.execute = execute
        self.user = user
        self.slice = slice_
        self.job_ad = JOB_AD
        self.machine_ad = MACHINE_AD
        # What the starter mounts for what it starts, and where (MOUNT_UNDER_SCRATCH).
        self.mounts: dict[Path, Path] = {}
        self._processes: list[Process] = []

    def environment(self, directory: Path) -> list[bytes]:
        """The environment of a job, as the starter makes it."""
        return [
            b"PATH=/usr/bin:/bin",
            b"_CONDOR_SCRATCH_DIR=" + os.fsencode(directory),
            b"_CONDOR_JOB_AD=" + os.fsencode(directory / ".job.ad"),
            b"_CONDOR_MACHINE_AD=" + os.fsencode(directory / ".machine.ad"),
            b"_CONDOR_WRAPPER_ERROR_FILE=" + os.fsencode(directory.parent / "wrapper_error"),
        ]

    def start(
        self,
        *argv: str | bytes,
        environ: Sequence[bytes] = (),
        before: Callable[[], object] = lambda: None,
        wrapped: bool = True,
    ) -> Process:
        """Start a command; `before` is called last before execve(2); not `wrapped`: directly.

        The working directory is the scratch directory; standard output and error are files in it.
        """
        directory = self._scratch()
        command = [os.fsencode(word) for word in argv]
        if wrapped:
            command.insert(0, os.fsencode(self.wrapper))
        entries = [*self.environment(directory), *environ]
        pid = os.fork()
        if pid == 0:
            try:
                self._become(directory)
                before()
                _execve(command, entries)
            finally:
                os._exit(255)
        process = Process(pid, directory)
        self._processes.append(process)
        return process

    def run(
        self,
        *argv: str | bytes,
        environ: Sequence[bytes] = (),
        before: Callable[[], object] = lambda: None,
        wrapped: bool = True,
    ) -> Process:
        """Start a command and wait for its end."""
        process = self.start(*argv, environ=environ, before=before, wrapped=wrapped)
        process.wait()
        return process

    def shell(self, line: str) -> Process:
        """Run a line of shell."""
        return self.run("/bin/sh", "-c", line)

    def _scratch(self) -> Path:
        """The scratch directory of what is started next, with its ads."""
        base = Path(tempfile.mkdtemp(prefix="dir_", dir=self.execute))
        directory = base / "scratch"
        directory.mkdir()
        for path in (base, directory):
            path.chmod(0o755)
            os.chown(path, self.user.uid, self.user.gid)
        (directory / ".job.ad").write_text(self.job_ad)
        (directory / ".machine.ad").write_text(self.machine_ad)
        return directory

    def _become(self, directory: Path) -> None:
        os.setsid()
        if self.slice is not None:
            (self.slice.scope / "cgroup.procs").write_text("0")
        if self.mounts:
            self._mount()
        os.umask(0o022)
        self.user.become()
        os.chdir(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for fd, path, how in (
            (0, "/dev/null", os.O_RDONLY),
            (1, "_condor_stdout", flags),
            (2, "_condor_stderr", flags),
        ):
            os.dup2(os.open(path, how, 0o644), fd)

    def _mount(self) -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(b"none", b"/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        for source, target in self.mounts.items():
            syscalls.mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND)

    def close(self) -> None:
        """Kill whatever still runs."""
        for process in self._processes:
            if process.status is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def _execve(argv: list[bytes], environ: list[bytes]) -> None:
    """execve(2) with an environment that may hold anything, which os.execve refuses."""
    arguments = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    entries = (ctypes.c_char_p * (len(environ) + 1))(*environ, None)
    _libc.execve(argv[0], arguments, entries)
