"""Who may ask ledged, and for what."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET, Ledged
from tests.kernel.threats.attacker import FORGER, PYTHON, Attacker, nobody, wait_until

VERBS = ["reserve", "launch", "settle", "enter", "status", "jobs"]
REFUSED = ["refused"] * 3

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


def test_any_user_may_connect_and_gets_nothing(attacker: Attacker) -> None:
    lines = attacker.forge("ask_from_child").splitlines()
    assert [line.partition(":")[0] for line in lines] == VERBS
    assert [line.split()[1] for line in lines] == ["error", *REFUSED, "error", "error"]
    assert all("a child of python3 and not of HTCondor's starter" in line for line in lines[:4])
    assert "status is for root" in lines[4] and "jobs is for root" in lines[5]


def test_the_name_alone_makes_no_starter(attacker: Attacker) -> None:
    lines = attacker.forge("ask_from_child", "condor_starter").splitlines()
    assert all("a child of condor_starter and not of HTCondor's" in line for line in lines[:4])


def test_the_starter_s_child_outside_of_a_slice(attacker: Attacker, installed: Path) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    lines = hook.forge("ask_all").splitlines()
    assert [line.split()[1] for line in lines] == ["done", *REFUSED, "error", "error"]
    assert all("outside of the slice" in line for line in lines[1:3])


def test_a_slice_that_belongs_to_another_user(attacker: Attacker, slice_: Slice) -> None:
    os.chown(slice_.path, nobody().uid - 1, -1)
    assert "outside of the slice" in attacker.forge("ask_launch")


def test_a_job_asks_from_inside(attacker: Attacker) -> None:
    job = attacker.run(PYTHON, "-ISEc", FORGER, "ask_all")
    lines = job.check().decode().splitlines()
    assert [line.split()[1] for line in lines] == ["error", *REFUSED, "error", "error"]


def test_a_second_job_in_a_slice(attacker: Attacker) -> None:
    job = attacker.start("/bin/sh", "-c", "touch running; sleep 100")
    job.wait_for("running")
    assert "a job of this slice is running" in attacker.forge("ask_launch")
    second = attacker.run("/bin/true")
    assert b"a job of this slice is running" in second.wrapper_error


def test_a_job_that_ledged_knows_nothing_of(attacker: Attacker) -> None:
    assert "running since before ledged was started" in attacker.forge("ask_beside_unknown_job")


def test_a_nonce_of_another_connection(attacker: Attacker) -> None:
    assert "a nonce of another connection" in attacker.forge("ask_with_old_nonce")


def test_a_connection_of_another_process(attacker: Attacker) -> None:
    assert "another process than the one" in attacker.forge("ask_on_inherited_connection")


@pytest.mark.usefixtures("ledged")
def test_a_connection_of_a_dead_process_whose_pid_is_used_again() -> None:
    """As root, for whom status is: it is neither the PID nor the user that is wrong."""
    for _ in range(50):  # somebody else may take the PID before us
        ours, theirs = socket.socketpair()
        first = os.fork()
        if first == 0:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(SOCKET))
            nonce = connection.recv(256).split()[2]
            socket.send_fds(theirs, [nonce], [connection.fileno()])
            os._exit(0)
        nonce, fds, _, _ = socket.recv_fds(ours, 64, 1)
        os.waitpid(first, 0)
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(first - 1))
        second = os.fork()
        if second == 0:
            os.write(fds[0], b"status 1 %s 0\n" % nonce)
            os._exit(0)
        os.waitpid(second, 0)
        answer = os.read(fds[0], 4096)
        for fd in fds:
            os.close(fd)
        ours.close()
        theirs.close()
        assert b"another process than the one that connected" in answer
        if second == first:
            return
    raise AssertionError("no PID was used again")


def test_another_version_of_the_protocol(attacker: Attacker) -> None:
    assert "version 9 of the protocol; ledged speaks 1" in attacker.forge("ask_with_version", "9")


def test_a_group_that_goes_while_its_job_settles(attacker: Attacker, ledged: Ledged) -> None:
    """HTCondor may kill the job in that moment: then what was read before is what there is."""
    begin = len(ledged.lines())
    for _ in range(5):
        process = attacker.attack("settle_while_the_group_goes")
        process.wait()
        if process.output != b"late":
            break
    assert process.output.startswith(b"refused"), process.output
    # Exact where the kernel's last word on its CPU time was read, sampled where it was not.
    told = f"the wrapper {process.pid} has gone without settling; "
    wait_until(lambda: any(told in line for line in ledged.lines()[begin:]), "nothing is read")
