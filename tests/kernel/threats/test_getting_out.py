"""Getting out of something by being launched: what a process has less than a job."""

from __future__ import annotations

import os

import pytest

from ledge.kernel import syscalls
from tests.kernel.starter import User
from tests.kernel.threats.attacker import Attacker, proc_status

CAP_NET_RAW = 13

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("seccomp", "a process with a system call filter, which a job would escape"),
        ("userns", "a process in a user namespace, which a job would escape"),
    ],
)
def test_nobody_gets_out_of_a_sandbox(attacker: Attacker, how: str, reason: str) -> None:
    assert reason in attacker.forge("ask_confined", how)


class Capable(User):
    """A user whose processes have an inheritable capability."""

    def become(self) -> None:
        own = next(line for line in proc_status(os.getpid()).splitlines() if "CapPrm" in line)
        permitted = int(own.split()[1], 16)
        syscalls.capset(permitted, permitted, 1 << CAP_NET_RAW)
        super().become()


class Bounded(User):
    """A user whose processes can never have a certain capability again, nor any by execve."""

    def become(self) -> None:
        syscalls.prctl(syscalls.PR_CAPBSET_DROP, CAP_NET_RAW)
        super().become()
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def test_a_process_with_capabilities(attacker: Attacker) -> None:
    user = attacker.user
    attacker.user = Capable(user.name, user.uid, user.gid)
    assert "capabilities of its own (CapInh)" in attacker.forge("ask_launch")


def test_what_bounds_the_wrapper_bounds_the_job(attacker: Attacker) -> None:
    user = attacker.user
    attacker.user = Bounded(user.name, user.uid, user.gid)
    line = ["/bin/grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status"]
    launched, alone = attacker.run(*line).check(), attacker.run(*line, wrapped=False).check()
    assert b"NoNewPrivs:\t1" in launched
    assert launched == alone


@pytest.mark.parametrize("delay", [0, 300, 600, 1000, 1500, 2000, 3000, 5000])
@pytest.mark.parametrize("change", ["userns", "chroot", "seccomp", "no_new_privs"])
def test_changed_after_asking(attacker: Attacker, change: str, delay: int) -> None:
    """Between the look that ledged took and the launcher's: never the /etc that a user made.

    Too early a change ledged itself refuses, too late a one concerns the process alone.
    """
    process = attacker.attack("change_after_asking", str(delay), change)
    process.wait()
    expected = {b"failed 1 launch the job of a process that", b"refused ", b"init\nborn\nstarted\n"}
    assert [begin for begin in expected if process.output.startswith(begin)], process.output
    assert b"own /etc" not in process.output
