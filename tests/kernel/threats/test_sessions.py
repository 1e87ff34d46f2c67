"""Sessions of condor_ssh_to_job: whoever pretends to be one gets into no job but his starter's."""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.kernel.sshd import Sshd
from tests.kernel.starter import Process, User
from tests.kernel.threats.attacker import FORGER, PYTHON, Attacker, wait_until
from tests.kernel.threats.test_entering import assert_refused, caught, is_outside, name_of

ATTEMPTS = 20

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


@pytest.fixture
def job(attacker: Attacker) -> Process:
    """One that runs, of the attacker's own."""
    job = attacker.start("/bin/sh", "-c", "touch running; sleep 600")
    job.wait_for("running")
    return job


@pytest.mark.usefixtures("job")
def test_once_and_no_more(attacker: Attacker) -> None:
    """As often as the starter starts processes, so often can one be had in the job."""
    answers = attacker.forge("ask_enter", "3")
    assert answers.startswith("done"), answers
    assert answers.count("has asked before") == 2, answers


@pytest.mark.usefixtures("job")
def test_no_job_of_another_starter(attacker: Attacker) -> None:
    """Of the same user, on the same node."""
    hear, tell = os.pipe()
    other = os.fork()
    if other == 0:
        try:
            os.write(tell, attacker.forge("ask_enter").encode())
        finally:
            os._exit(0)
    os.close(tell)
    assert "its starter has no job here" in os.read(hear, 4096).decode()
    os.close(hear)
    os.waitpid(other, 0)


@pytest.mark.usefixtures("job")
def test_no_job_of_another_user(attacker: Attacker) -> None:
    """Of the same starter: nothing but root's own configuration could start such a process."""
    uid = attacker.user.uid - 1
    other = Attacker(attacker.wrapper, attacker.execute, User("other", uid, uid), None)
    assert "its starter has no job here" in other.forge("ask_enter")


def test_the_wrapper_itself(attacker: Attacker) -> None:
    assert "the job's wrapper" in attacker.forge("ask_enter_as_wrapper")


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("how", ["seccomp", "userns"])
def test_nobody_gets_out_of_a_sandbox(attacker: Attacker, how: str) -> None:
    assert "which a job would escape" in attacker.forge("ask_confined", how, "enter")


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("what", ["nothing", "garbage", "a pipe"])
def test_a_wrong_handover(attacker: Attacker, what: str) -> None:
    """It fails, and nothing is left of it."""
    told = attacker.forge("enter", what)
    assert told.startswith("failed "), told


def test_by_the_job(attacker: Attacker) -> None:
    """What becomes sshd has no right any more when the job can see it."""
    job = attacker.start(PYTHON, "-ISEc", FORGER, "attack_entering", "flag")
    job.wait_for("flag")
    sshd = Sshd(attacker, job)
    try:
        for _ in range(ATTEMPTS):
            session = sshd.session("/bin/true")
            session.client.close()
            wait_until(partial(caught_or_over, job, session.process), "nothing happens")
            if job.output:
                break
        assert attacker.slice
        ours = [pid for pid in attacker.slice.processes() if name_of(pid) == "ledge_enter"]
        assert sorted(is_outside(pid) for pid in ours) == [False, True]
        (job.directory / "flag.go").touch()
        assert session.process.wait() == 0
        found = caught(job.check().decode())
        assert_refused(found, attacker.user.uid)
        assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == 0
    finally:
        sshd.close()


def caught_or_over(job: Process, session: Process) -> bool:
    state = os.waitid(os.P_PID, session.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return bool(job.output) or state is not None
