"""QEMU's machine protocol (QMP) over its unix socket: one JSON object a line."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.pool.errors import MachineError, MachineTimeout


class Monitor:
    """A connection to one QEMU."""

    def __init__(self, path: Path, timeout: float = 120.0) -> None:
        self._socket = _connect(path, timeout)
        self._socket.settimeout(timeout)
        self._lines = self._socket.makefile("rb")
        self._read()                                   # the greeting
        self.execute("qmp_capabilities")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a QMP command and return its result; events in between are dropped."""
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise MachineError(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def human(self, line: str) -> str:
        """Run a command of the human monitor and return what it prints."""
        return str(self.execute("human-monitor-command", **{"command-line": line}))

    def save_state(self, path: Path, seconds: float = 300.0) -> None:
        """Stop the machine for good and write its memory and devices to `path`."""
        self.execute("stop")
        self.execute("migrate-set-parameters", **{"max-bandwidth": 100 << 30})
        self.execute("migrate", uri=f"exec:cat > '{path}'")
        self._await_migration("completed", seconds)

    def await_restored(self, seconds: float = 120.0) -> None:
        """Wait until the incoming state was read, and let the machine go on."""
        self._await_migration("completed", seconds)
        self.execute("cont")

    def _await_migration(self, wanted: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.execute("query-migrate").get("status", "none")
            if status == wanted:
                return
            if status in ("failed", "cancelled"):
                raise MachineError(f"QEMU could not save or restore the machine: {status}")
            time.sleep(0.05)
        raise MachineTimeout(f"QEMU did not save or restore the machine within {seconds:.0f} s")

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise MachineError("QEMU closed its monitor")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


def _connect(path: Path, timeout: float) -> socket.socket:
    """Connect as soon as QEMU has made its socket."""
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            if time.monotonic() > deadline:
                raise MachineTimeout(f"QEMU made no monitor at {path}") from error
        time.sleep(0.02)
