"""The worker: the process that loads htcondor2, and is killed when it does not answer in time."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any, Callable

from ledge.kernel.syscalls import PR_SET_NAME, PR_SET_PDEATHSIG, prctl
from ledge.recorder.bindings import LARGEST_MESSAGE

PATIENCE_SECONDS = 20.0

Serve = Callable[[socket.socket], None]


class WorkerError(Exception):
    """The worker has ended, or did not answer; there will be another one for the next request."""


class Worker:
    """Asks the worker, which it starts when it is needed."""

    def __init__(self, serve: Serve, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`serve` is what the process does with its end of a socket."""
        self._serve = serve
        self._patience_seconds = patience_seconds
        self._pid: int | None = None
        self._socket: socket.socket | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises WorkerError."""
        connection = self._socket or self._start()
        try:
            connection.send(json.dumps(request).encode())
            answer = connection.recv(LARGEST_MESSAGE)
        except socket.timeout:
            self.end()
            raise WorkerError(f"no answer within {self._patience_seconds:g} s") from None
        except OSError as error:
            self.end()
            raise WorkerError(f"the worker has ended: {error.strerror}") from None
        if not answer:
            raise WorkerError(f"the worker has ended{self.end()}")
        result: dict[str, Any] = json.loads(answer)
        return result

    def end(self) -> str:
        """End it, so that the next one knows nothing of what this one did; how it had ended."""
        if self._socket is not None:
            self._socket.close()
        pid, self._pid, self._socket = self._pid, None, None
        if pid is None:
            return ""
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return f" (wait status {status})"

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST_MESSAGE)
        ours.settimeout(self._patience_seconds)
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            self._work(theirs)
        theirs.close()
        self._socket = ours
        return ours

    def _work(self, connection: socket.socket) -> None:
        """The worker itself; does not return."""
        status = 1
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            prctl(PR_SET_NAME, b"ledge_worker\0")
            self._serve(connection)
            status = 0
        finally:
            os._exit(status)
