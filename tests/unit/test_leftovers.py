"""What killed jobs have left, on nodes that have no cgroup2: nothing, and ledged goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from ledge.daemon import leftovers
from ledge.daemon.leftovers import Leftovers
from ledge.daemon.peer import PeerError
from ledge.daemon.server import Server
from ledge.daemon.traffic import NodeTraffic
from ledge.log import Log


class Timers(Server):
    """The server's timers alone."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.waiting.append(action)


def no_cgroup2() -> bytes:
    raise PeerError("cgroup2 is not mounted on this node")


def test_a_node_without_cgroup2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "mount_point", no_cgroup2)
    monkeypatch.setattr(leftovers, "htcondors_master", os.getpid)
    timers = Timers()
    left = Leftovers(NodeTraffic(["no network"]), Log(str(tmp_path / "log")), {})
    left.attach(timers)
    left.begin("htcondor")
    timers.waiting.pop()()
    assert len(timers.waiting) == 1  # it looks again
