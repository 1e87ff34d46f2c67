"""The recorder on a real spool; the process that would speak to HTCondor is told what to answer.

Against a real schedd: tests/pool/test_recording.py.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from ledge.kernel.proc import process_start
from ledge.recorder.bindings import DENIED, DONE, FAILED, GONE, REFUSED, outcome_of, serve
from ledge.recorder.recorder import Recorder, lives
from ledge.recorder.schedule import LONGEST_SECONDS
from ledge.recorder.spool import JOB, LAST, LIVE, START, Name, Spool, job_key
from ledge.recorder.worker import Worker, WorkerError

TOLD = ["schedd@ap", "12.3", "slot1_1@node"]


class Answers:
    """Stands for the worker: it knows the starter `pid`, and answers edits in their turn."""

    def __init__(self, pid: int, *outcomes: str) -> None:
        self.jobs: dict[str, list[str]] = {str(pid): TOLD}
        self.outcomes = list(outcomes)
        self.edits: list[dict[str, Any]] = []
        self.ended = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if "edit" not in request:
            return {"jobs": self.jobs}
        self.edits.append(request["edit"])
        outcome = self.outcomes.pop(0) if self.outcomes else DONE
        if outcome == "dies":
            raise WorkerError("the worker has ended")
        return {"outcome": outcome, "reason": "so it is"}

    def end(self) -> str:
        self.ended += 1
        return ""


class Bench:
    """A recorder, a starter that lives (any process), and a clock."""

    def __init__(self, path: Path, *outcomes: str) -> None:
        self.starter = subprocess.Popen(["sleep", "60"])
        began = process_start(self.starter.pid)
        self.key = job_key(self.starter.pid, began)
        self.spool = Spool(str(path))
        self.lines: list[str] = []
        self.now = 1000.0
        self.answers = Answers(self.starter.pid, *outcomes)
        self.restart()

    def restart(self) -> None:
        self.token_problem = ""
        self.recorder = Recorder(
            self.spool, self.answers, self.lines.append, lambda: self.token_problem
        )

    def work(self, seconds: float = 2.0) -> float:
        self.now += seconds
        return self.recorder.work(self.now)

    def kill_starter(self) -> None:
        self.starter.kill()
        self.starter.wait()

    def files(self) -> list[str]:
        return sorted(name.kind for name in self.spool.names())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.kill_starter()
    bench.spool.close()


def test_a_job_is_known_from_its_start_and_nothing_is_recorded_yet(bench: Bench) -> None:
    bench.spool.announce(bench.key)
    bench.work()
    assert bench.files() == [JOB]
    assert bench.answers.edits == []


def test_figures_are_recorded_in_the_job_that_the_startd_names(bench: Bench) -> None:
    bench.spool.put(bench.key, {"N": 1}, final=False)
    bench.work()
    (edit,) = bench.answers.edits
    assert (edit["schedd"], edit["job"], edit["slot"]) == ("schedd@ap", "12.3", None)
    assert "N = 1" in edit["record"]
    assert bench.files() == [JOB]


def test_the_last_figures_alone_where_there_are_both(bench: Bench) -> None:
    bench.spool.put(bench.key, {"N": 1}, final=False)
    bench.spool.put(bench.key, {"N": 2}, final=True)
    bench.work()
    assert ["N = 2" in edit["record"] for edit in bench.answers.edits] == [True]
    assert bench.files() == [JOB]


def test_a_recorder_started_anew_knows_a_job_whose_starter_has_gone(bench: Bench) -> None:
    bench.spool.announce(bench.key)
    bench.work()
    bench.spool.put(bench.key, {"N": 2}, final=True)
    bench.kill_starter()
    bench.answers.jobs = {}
    bench.restart()
    bench.work()
    (edit,) = bench.answers.edits
    # The job may run elsewhere by now: only if it was last in this slot.
    assert (edit["job"], edit["slot"]) == ("12.3", "slot1_1@node")


def test_figures_of_a_starter_that_nobody_ever_named_are_dropped(bench: Bench) -> None:
    bench.answers.jobs = {}
    bench.spool.put(bench.key, {}, final=True)
    assert bench.work() <= 1.0
    assert bench.files() == [LAST]  # it lives: the startd may name it yet
    bench.kill_starter()
    bench.work()
    assert bench.files() == []
    assert bench.recorder.counts["unknown"] == 1


def test_a_process_that_has_the_pid_later_is_not_the_starter(bench: Bench) -> None:
    earlier = job_key(bench.starter.pid, 1)
    bench.spool.put(earlier, {}, final=True)
    bench.work()
    assert not lives(earlier)
    assert bench.answers.edits == []
    assert bench.files() == []


@pytest.mark.parametrize("outcome", [DONE, GONE, REFUSED])
def test_what_is_answered_is_done_with(bench: Bench, outcome: str) -> None:
    bench.answers.outcomes = [outcome]
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    assert bench.files() == [JOB]
    assert bench.recorder.counts == {outcome: 1}


@pytest.mark.parametrize("outcome", [DENIED, FAILED, "dies"])
def test_what_fails_stays_and_is_tried_again_later(bench: Bench, outcome: str) -> None:
    bench.answers.outcomes = [outcome]
    bench.spool.put(bench.key, {}, final=True)
    pause = bench.work()
    assert bench.files() == [LAST, JOB] or bench.files() == [JOB, LAST]
    assert "schedd@ap" in bench.lines[0] and "12.3" in bench.lines[0]
    bench.work(pause / 2)
    assert len(bench.answers.edits) == 1
    bench.work(pause)
    assert len(bench.answers.edits) == 2
    assert bench.files() == [JOB]
    assert "schedd schedd@ap records again" in bench.lines


def test_permission_that_is_missing_has_a_remedy_and_ends_the_session(bench: Bench) -> None:
    bench.answers.outcomes = [DENIED]
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    assert "QUEUE_SUPER_USERS" in bench.lines[0]
    assert bench.answers.ended == 1


def test_the_same_trouble_is_told_once_and_another_again(bench: Bench) -> None:
    bench.answers.outcomes = [FAILED] * 4
    bench.spool.put(bench.key, {}, final=True)
    for problem in ("", "", "the token expired", "the token expired", ""):
        bench.token_problem = problem
        bench.work(1000.0)
    told = [line for line in bench.lines if line.startswith("schedd")]
    assert [("is up" in line, "expired" in line, "again" in line[-6:]) for line in told] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_condor_reconfig_has_trouble_told_again(bench: Bench) -> None:
    bench.answers.outcomes = [FAILED] * 2
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    bench.recorder.begin_anew()
    bench.work()
    assert len([line for line in bench.lines if "does not record" in line]) == 2


def test_whatever_failed_is_tried_with_new_tokens(bench: Bench) -> None:
    bench.answers.outcomes = [FAILED]
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    assert bench.answers.ended == 1


def test_a_full_disk_is_not_filled_with_beginnings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError))
    for number in range(5):
        bench.answers.jobs = {str(bench.starter.pid): ["schedd@ap", f"{number}.0", "slot"]}
        bench.spool.announce(bench.key)
        bench.restart()
        bench.work()
    left = set(os.listdir(bench.spool.path)) - {f"{bench.key}.{START}"}
    assert left == {".job"}


def test_condor_reconfig_has_everything_tried_at_once(bench: Bench) -> None:
    bench.answers.outcomes = [DENIED]
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    bench.recorder.begin_anew()
    bench.work(0.0)
    assert bench.files() == [JOB]


def test_a_job_is_forgotten_when_all_is_delivered_and_its_starter_has_gone(bench: Bench) -> None:
    bench.spool.put(bench.key, {}, final=True)
    bench.work()
    bench.kill_starter()
    bench.work(100.0)
    assert bench.files() == []
    assert bench.recorder.jobs == {}
    assert bench.lines[-1] == "so far: done 1; waiting 0"


def test_garbage_in_the_spool_is_removed(bench: Bench) -> None:
    bench.spool.announce(bench.key)
    bench.work()
    Path(bench.spool.path, f"{bench.key}.{LIVE}").write_text("garbage")
    bench.work()
    assert bench.files() == [JOB]
    assert bench.recorder.counts == {"unreadable": 1}


def test_the_start_alone_of_a_job_that_has_gone(bench: Bench) -> None:
    bench.kill_starter()
    bench.spool.announce(bench.key)
    bench.work()
    assert Name(bench.key, START) not in bench.spool.names()


# What htcondor2 25.14.1 raises, word for word.
@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("Unable to commit transaction:Modifying attribute Ledge in nonexistent job 99.0", GONE),
        (
            "Unable to commit transaction:User ledge@pool may not change attributes for jobs they "
            "do not own (job 1.0)",
            DENIED,
        ),
        (
            "Unable to commit transaction:Unauthorized setting of protected attribute Ledge denied "
            "for real owner alice (effective owner alice; allowed protected attribute change = "
            "true) in job 1.0",
            DENIED,
        ),
        ("Unable to commit transaction:Received invalid attribute value '[' for job 1.0", REFUSED),
        ("Unable to commit transaction:", FAILED),
        ("Failed to connect to schedd.", FAILED),
        ("the collector knows no such schedd", FAILED),
    ],
)
def test_what_an_exception_means(message: str, outcome: str) -> None:
    assert outcome_of(message) == outcome


# ---- the worker, a real process


def echo(connection: socket.socket) -> None:
    while message := connection.recv(131072):
        connection.send(message)


def hang(connection: socket.socket) -> None:
    connection.recv(131072)
    time.sleep(60)


def die(connection: socket.socket) -> None:
    connection.recv(131072)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_worker_answers() -> None:
    worker = Worker(echo)
    assert worker.ask({"record": "x" * 100_000}) == {"record": "x" * 100_000}
    worker.end()


@pytest.mark.parametrize("serve_badly", [hang, die])
def test_a_worker_that_hangs_or_dies_is_replaced(serve_badly: Any) -> None:
    children = set(psutil.Process().children())
    worker = Worker(serve_badly, patience_seconds=0.3)
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(WorkerError):
            worker.ask({})
    assert time.monotonic() - begin < 5
    assert set(psutil.Process().children()) <= children


def test_the_real_bindings_where_no_htcondor_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "condor_config"
    config.write_text(
        f"LOCAL_DIR = {tmp_path}\nLOG = {tmp_path}\nCONDOR_HOST = 127.0.0.1\nCOLLECTOR_PORT = 1\n"
        "NO_DNS = True\nDEFAULT_DOMAIN_NAME = nowhere\nNETWORK_INTERFACE = 127.0.0.1\n"
    )
    monkeypatch.setenv("CONDOR_CONFIG", str(config))
    worker = Worker(lambda connection: serve(connection, tokens=None))
    assert "the startd does not say" in worker.ask({"jobs": True})["problem"]
    edit = {"schedd": "schedd@ap", "job": "1.0", "record": "[]", "slot": None}
    assert worker.ask({"edit": edit})["outcome"] == FAILED
    worker.end()


def test_a_schedd_for_which_nothing_is_left_is_not_waited_for(bench: Bench) -> None:
    """ledged may have dropped it for want of room: else the recorder would look 20 times a second
    for ever."""
    bench.answers.outcomes = [FAILED]
    bench.spool.put(bench.key, {"N": 1}, final=False)
    assert bench.work() < LONGEST_SECONDS
    bench.spool.remove(Name(bench.key, LIVE))
    bench.work(2 * LONGEST_SECONDS)
    assert bench.work() > 1.0
