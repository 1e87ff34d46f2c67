"""The attacker, a starter whose children forge, and whether ledged serves others meanwhile."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Callable

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET
from tests.kernel.starter import PATIENCE_SECONDS, Process, Starter, User

PYTHON = "/usr/bin/python3"
FORGER = (Path(__file__).parents[1] / "forger.py").read_text()
AT_MOST_SECONDS = 2.0  # that ledged answers within, whatever anybody does


def nobody() -> User:
    return User.named("nobody")


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def groups(slice_: Slice) -> list[str]:
    """What is in the slice, while ledged may be about to remove it."""
    while True:
        try:
            return slice_.groups()
        except FileNotFoundError:
            continue


class Attacker(Starter):
    """A starter whose children say to ledged what tests/kernel/forger.py has."""

    def attack(self, *words: str) -> Process:
        """Start a function of the forger's."""
        return self.start(PYTHON, "-ISEc", FORGER, *words, wrapped=False)

    def forge(self, *words: str) -> str:
        """What a function of the forger's says."""
        process = self.attack(*words)
        process.wait()
        assert process.error == b"", process.error
        return process.output.decode()

    def close(self) -> None:
        super().close()
        if self.slice is not None:
            (self.slice.path / "cgroup.kill").write_text("1")
            wait_until(self.slice.is_empty, "processes are left")


def status() -> tuple[bytes, float]:
    """ledged's status, as root gets it, and the seconds that it took."""
    begin = time.monotonic()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(SOCKET))
        nonce = connection.recv(256).split()[2]
        connection.sendall(b"status 1 %s 0\n" % nonce)
        return connection.recv(65536), time.monotonic() - begin


def assert_serving() -> None:
    answer, seconds = status()
    assert answer.startswith(b"done"), answer
    assert seconds < AT_MOST_SECONDS, seconds


def proc_status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()
