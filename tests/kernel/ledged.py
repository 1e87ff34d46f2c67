"""ledged on this machine, for the stand-in of HTCondor's starter (tests/kernel/starter.py)."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SOCKET = Path("/run/condor-ledge/socket")
PATIENCE_SECONDS = 20.0
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_libc = ctypes.CDLL(None)
_NAME = ctypes.create_string_buffer(16)
_libc.prctl(_PR_GET_NAME, _NAME)


class Ledged:
    """The installed daemon, started as condor_master starts it; its log is a file."""

    def __init__(
        self,
        installed: Path,
        directory: Path,
        policy: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.log = directory / "LedgeLog"
        self.policy = policy or directory / "policy.yaml"
        # The interpreter of the tests, which has classad2.
        program = [sys.executable, "-I", str(installed / "ledged")]
        command = [*program, "--log", str(self.log), "--policy", str(self.policy), *options]
        self.process = subprocess.Popen(command)
        # What ledged knows a starter by, beside its being root's.
        _libc.prctl(_PR_SET_NAME, b"condor_starter")
        self._await_socket()

    def _await_socket(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.log.exists() or "started" not in self.log.read_text():
            assert self.process.poll() is None, "ledged has ended"
            assert time.monotonic() < deadline, "ledged does not start"
            time.sleep(0.01)

    def lines(self) -> list[str]:
        """The lines of the log, without their time stamps."""
        return [line[18:] for line in self.log.read_text().splitlines()]

    def children(self, name: str) -> list[int]:
        """The PIDs of its processes of that name; the launcher is nobody's child, and named."""
        parent = self.process.pid
        pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        pids += re.findall(r", launcher (\d+)$", self.log.read_text(), re.MULTILINE)[-1:]
        return [int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text() == name + "\n"]

    def kill(self) -> None:
        """SIGKILL; its launcher ends when it sees that."""
        launchers = self.children("ledge_launcher")
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in launchers):
            assert time.monotonic() < deadline, "the launcher does not end"
            time.sleep(0.01)
        self.log.unlink()

    def close(self) -> None:
        """End it; what it leaves in /run is removed."""
        _libc.prctl(_PR_SET_NAME, _NAME)
        self.process.terminate()
        assert self.process.wait(PATIENCE_SECONDS) == 0
        for path in SOCKET.parent.iterdir():
            path.unlink()
        os.rmdir(SOCKET.parent)
