"""Signals to the wrapper are signals to the job; whoever kills the wrapper kills all of it."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.kernel.starter import Starter

FORWARDED = [
    signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGCONT, signal.SIGHUP,
    signal.SIGINT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGRTMIN + 3, signal.SIGRTMAX,
]  # fmt: skip

# Says which signals it gets, in a file, and ends a moment after the last.
LISTENER = """
import signal
everything = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, everything)
open("ready", "w").close()
with open("got", "w") as file:
    while (told := signal.sigtimedwait(everything, 0.3)) or not file.tell():
        if told:
            print(int(told.si_signo), file=file)
"""


@pytest.mark.parametrize("number", FORWARDED)
def test_a_signal_reaches_the_job_exactly_once(starter: Starter, number: int) -> None:
    process = starter.start("/usr/bin/python3", "-ISEc", LISTENER)
    process.wait_for("ready")
    os.kill(process.pid, number)
    process.check()
    assert (process.directory / "got").read_text() == f"{int(number)}\n"


def test_real_time_signals_queue(starter: Starter) -> None:
    process = starter.start("/usr/bin/python3", "-ISEc", LISTENER)
    process.wait_for("ready")
    for _ in range(5):
        os.kill(process.pid, signal.SIGRTMIN)
    process.check()
    assert (process.directory / "got").read_text() == f"{int(signal.SIGRTMIN)}\n" * 5


def test_a_job_may_outlive_a_sigterm(starter: Starter) -> None:
    line = "trap 'echo got it; exit 5' TERM; : >ready; while :; do sleep 0.02; done"
    process = starter.start("/bin/sh", "-c", line)
    process.wait_for("ready")
    os.kill(process.pid, signal.SIGTERM)
    assert os.WEXITSTATUS(process.wait()) == 5
    assert process.output == b"got it\n"


def test_a_signal_of_the_job_s_to_its_init_goes_nowhere(starter: Starter) -> None:
    line = "trap 'echo echoed' TERM; kill -TERM 1; kill -KILL 1; sleep 0.1; echo alive"
    assert starter.shell(line).check() == b"alive\n"


def test_a_sigterm_during_the_start_is_never_lost(starter: Starter) -> None:
    """At whatever moment: the wrapper dies of it, or the job does."""
    for _ in range(60):
        process = starter.start("/bin/sleep", "30")
        time.sleep(random.uniform(0, 0.04))
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == signal.SIGTERM
        assert process.wrapper_error == b""


def test_a_sigkill_during_the_start_leaves_nothing(starter: Starter) -> None:
    """At whatever moment: init and the job go with the wrapper."""
    assert starter.slice is not None
    for _ in range(60):
        process = starter.start("/bin/sleep", "30")
        time.sleep(random.uniform(0, 0.04))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert starter.slice.is_empty(), "something lives on without its wrapper"
        remove_groups(starter)  # the wrapper could not: HTCondor's starter does it


def test_a_sigkill_to_the_wrapper_kills_everything(starter: Starter) -> None:
    assert starter.slice is not None
    line = "(setsid sleep 100 &); sleep 100 & : >ready; exec sleep 100"
    process = starter.start("/bin/sh", "-c", line)
    process.wait_for("ready")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert starter.slice.is_empty()
    remove_groups(starter)


def remove_groups(starter: Starter) -> None:
    assert starter.slice is not None
    for name in sorted(starter.slice.groups(), reverse=True):
        for _ in range(100):
            try:
                (starter.slice.path / name).rmdir()
                break
            except OSError:
                time.sleep(0.01)


def test_a_stopped_job_stays_and_goes_on(starter: Starter) -> None:
    code = "import os; open('stopping', 'w'); os.kill(os.getpid(), 19)"
    process = starter.start("/usr/bin/python3", "-ISEc", code)
    process.wait_for("stopping")
    time.sleep(0.2)
    assert os.waitpid(process.pid, os.WNOHANG) == (0, 0)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait() == 0


def test_the_freezer_stops_and_continues_it_all(starter: Starter) -> None:
    assert starter.slice is not None
    process = starter.start("/bin/sh", "-c", "while :; do echo >>ticks; sleep 0.01; done")
    process.wait_for("ticks")
    freeze = starter.slice.path / "cgroup.freeze"
    freeze.write_text("1")
    while "frozen 1" not in (starter.slice.path / "cgroup.events").read_text():
        time.sleep(0.01)
    size = (process.directory / "ticks").stat().st_size
    time.sleep(0.1)
    assert (process.directory / "ticks").stat().st_size == size
    freeze.write_text("0")
    time.sleep(0.1)
    assert (process.directory / "ticks").stat().st_size > size
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == signal.SIGTERM
