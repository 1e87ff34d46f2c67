"""A stand-in for systemd, and condor.service in it: what a PID namespace of HTCondor's is made by.

The service's main process comes to the test, which answers at NOTIFY_SOCKET, as to systemd.
systemd itself is on the pool (tests/pool/test_private_pids.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.installed import SOURCE_ROOT
from tests.kernel.cgroups import Slice
from tests.kernel.starter import PATIENCE_SECONDS

_PR_SET_CHILD_SUBREAPER = 36
_DESCRIPTOR = 4
_libc = ctypes.CDLL(None)
PROGRAM = "private_pids"


class Service:
    """A service that is started by private_pids; `pid` is its main process."""

    def __init__(
        self,
        installed: Path,
        *command: str,
        environ: Mapping[str, str] = {},
        before: Sequence[str] = (),
        answers: bool = True,
    ) -> None:
        """`before` is a command that becomes private_pids; without `answers` systemd is stuck."""
        self._be_subreaper(True)
        self.pid = 0
        self._ended: int | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="ledge-notify-")
        path = os.path.join(self._directory.name, "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.settimeout(PATIENCE_SECONDS)
        self.launcher = subprocess.Popen(
            [*before, str(installed / PROGRAM), *command],
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": path, **environ},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if answers:
            self.take()

    def take(self) -> None:
        """Take the main process for what it is told to be, as systemd does."""
        word, _, pid = self._socket.recv(4096).partition(b"=")
        assert word == b"MAINPID"
        self.pid = int(pid)
        # It is a child of ours by now: of a stranger's end systemd would not hear (main_pid_alien).
        assert os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG) is None
        self._be_subreaper(False)  # other orphans are for those to wait for who do
        message, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_DESCRIPTOR))
        assert message == b"BARRIER=1"
        ((_, _, payload),) = ancillary
        os.close(int.from_bytes(payload[:_DESCRIPTOR], sys.byteorder))
        assert self.launcher.wait(PATIENCE_SECONDS) == 0

    def output(self) -> str:
        """What it and its launcher wrote on standard output, when all of them have ended."""
        assert self.launcher.stdout is not None
        return self.launcher.stdout.read().decode()

    def error(self) -> str:
        assert self.launcher.stderr is not None
        return self.launcher.stderr.read().decode()

    def wait(self) -> int:
        """The wait status of the main process."""
        if self._ended is None:
            pidfd = os.pidfd_open(self.pid)
            ready = select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
            os.close(pidfd)
            assert ready, "the service does not end"
            self._ended = os.waitpid(self.pid, 0)[1]
        return self._ended

    def close(self) -> None:
        """Kill what is left of it."""
        if self.launcher.poll() is None:
            self.launcher.kill()
            self.launcher.wait()
        if not self.pid:
            self._note_pid()
        self._socket.close()
        self._directory.cleanup()
        if self.pid and self._ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for stream in (self.launcher.stdout, self.launcher.stderr):
            assert stream is not None
            stream.close()
        self._be_subreaper(False)

    def _note_pid(self) -> None:
        """Of a main process that was told of, and not taken."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # it was not even made
            self.pid = int(self._socket.recv(4096).partition(b"=")[2])

    @staticmethod
    def _be_subreaper(whether: bool) -> None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(whether), 0, 0, 0)


def node_inside(
    installed: Path, execute: Path, directory: Path, slice_: Slice, ledged: bool
) -> Service:
    """HTCondor in a PID namespace of its own: tests/kernel/node_inside.py."""
    words = [str(installed), str(execute), str(directory), str(slice_.path), str(int(ledged))]
    environ = {"PYTHONPATH": str(SOURCE_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.kernel.node_inside", *words]
    return Service(installed, *command, environ=environ)
