"""The policy in force: what becomes of jobs while there is none."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledge.daemon import decider as module
from ledge.daemon.decider import Decider
from ledge.policy import evaluator
from ledge.policy.decision import Decision

JOB = b'Owner = "alice"\nRequestCpus = 1\n'
MACHINE = b"Cpus = 1\nMemory = 1024\n"


class Loop:
    """Of the server's loop, what a decider needs."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        self.watched[fd] = action

    def decision(self, decider: Decider) -> Decision:
        decisions: list[Decision] = []
        decider.decide(JOB, MACHINE, decisions.append)
        until = time.monotonic() + 60
        while not decisions:
            ready, _, _ = select.select(list(self.watched), [], [], until - time.monotonic())
            assert ready, "too late"
            for fd in ready:
                self.watched[fd]()
        return decisions[0]


def close(decider: Decider) -> None:
    assert decider._evaluator is not None
    decider._evaluator.close()


def test_a_process_that_is_too_slow_to_start_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, told = Loop(), list[str]()
    monkeypatch.setattr(evaluator, "_PATIENCE_SECONDS", 1e-6)
    decider = Decider(str(tmp_path / "none.yaml"), told.append, loop.watch)
    assert "is not running" in str(loop.decision(decider).refusal)
    monkeypatch.setattr(evaluator, "_PATIENCE_SECONDS", 20.0)
    assert loop.decision(decider).plan is None  # not at once: that would cost every job
    decider._not_before -= module._PAUSE_SECONDS
    assert loop.decision(decider).plan is not None
    assert decider.problem == ""
    close(decider)


def test_a_policy_that_is_wrong_is_not_read_for_every_job(tmp_path: Path) -> None:
    loop, told = Loop(), list[str]()
    (tmp_path / "policy.yaml").write_text("version: 2\n")
    decider = Decider(str(tmp_path / "policy.yaml"), told.append, loop.watch)
    assert loop.decision(decider).plan is None
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    assert loop.decision(decider).plan is None
    decider.reload()
    assert loop.decision(decider).plan is not None
    close(decider)
