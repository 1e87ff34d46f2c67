"""ledged on this machine, for the stand-in of HTCondor's starter (tests/kernel/starter.py)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

SOCKET = Path("/run/condor-ledge/socket")
PATIENCE_SECONDS = 20.0
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_libc = ctypes.CDLL(None)


class Ledged:
    """The installed daemon, started as condor_master starts it; its log is a file."""

    def __init__(self, installed: Path, directory: Path, policy: Path | None = None) -> None:
        self.log = directory / "LedgeLog"
        self.policy = policy or directory / "policy.yaml"
        # The interpreter of the tests, which has classad2.
        program = [sys.executable, "-I", str(installed / "ledged")]
        command = [*program, "--log", str(self.log), "--policy", str(self.policy)]
        self.process = subprocess.Popen(command)
        self._name = ctypes.create_string_buffer(16)
        _libc.prctl(_PR_GET_NAME, self._name)
        self._await_socket()
        # What ledged knows a starter by, beside its being root's.
        _libc.prctl(_PR_SET_NAME, b"condor_starter")

    def _await_socket(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.log.exists() or "started" not in self.log.read_text():
            assert self.process.poll() is None, "ledged has ended"
            assert time.monotonic() < deadline, "ledged does not start"
            time.sleep(0.01)

    def lines(self) -> list[str]:
        """The lines of the log, without their time stamps."""
        return [line[18:] for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        """End it; what it leaves in /run is removed."""
        _libc.prctl(_PR_SET_NAME, self._name)
        self.process.terminate()
        assert self.process.wait(PATIENCE_SECONDS) == 0
        for path in SOCKET.parent.iterdir():
            path.unlink()
        os.rmdir(SOCKET.parent)
