"""HTCondor in a PID namespace of its own: the program that makes it, and condor-ledge inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledge.client import Connection
from ledge.doctor import pid_namespace
from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.monitoring.node import look
from ledge.private_pids import _hiding
from tests.installed import SOURCE_ROOT
from tests.kernel.cgroups import Slice
from tests.kernel.command import JOB, entering, ledge, listed, runs
from tests.kernel.ledged import SOCKET
from tests.kernel.private_pids import Service, node_inside
from tests.kernel.threats.attacker import groups, nobody, wait_until

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")

Start = Callable[..., Service]
SEES = """
import json, os
with open("/proc/self/mountinfo") as file:
    mounts = [line.split() for line in file]
print(json.dumps({
    "pids": sorted([int(name) for name in os.listdir("/proc") if name.isdigit()]),
    "ids": [os.getpid(), os.getppid(), os.getsid(0), os.getpgrp()],
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:-1],
    "proc": [line[5] for line in mounts if line[4].startswith("/proc")],
    "propagation": [word for line in mounts if line[4] == "/" for word in line[6:]][0][:7],
    "environ": open("/proc/self/environ", errors="surrogateescape").read().split("\\0")[:-1],
}))
"""


@pytest.fixture
def start(installed: Path) -> Iterator[Start]:
    """Makes services, and ends them."""
    with contextlib.ExitStack() as stack:

        def make(*command: str, **options: Any) -> Service:
            service = Service(installed, *command, **options)
            stack.callback(service.close)
            return service

        yield make


# ---- the program


def test_the_main_process_is_the_first_of_a_namespace_and_as_it_would_be_without(
    start: Start,
) -> None:
    environ = {"WATCHDOG_PID": "1234", "WATCHDOG_USEC": "5", "LISTEN_PID": "1234", "ODD": "\udcff"}
    before = Path("/proc/self/mountinfo").read_text()
    service = start("/usr/bin/python3", "-ISE", "-c", SEES, environ=environ)
    assert service.wait() == 0
    seen = json.loads(service.output())
    assert seen["pids"] == [1]
    assert seen["ids"] == [1, 0, 1, 1]
    assert seen["descriptors"] == ["0", "1", "2"]
    assert seen["proc"] == ["rw,nosuid,nodev,noexec,relatime"]
    assert seen["propagation"] == "shared:"
    told = dict(entry.split("=", 1) for entry in seen["environ"])
    assert told["WATCHDOG_PID"] == told["LISTEN_PID"] == "1"
    assert set(told) == {"PATH", "NOTIFY_SOCKET", *environ}  # and none of Python's or libc's
    assert told["ODD"] == "\udcff"
    assert Path("/proc/self/mountinfo").read_text() == before


def test_signals_and_the_end_are_systemds_own(start: Start) -> None:
    service = start("/bin/sh", "-c", "trap 'echo $$ HUP; exit 9' HUP; echo; while :; do :; done")
    assert service.launcher.stdout is not None
    assert service.launcher.stdout.readline() == b"\n"
    os.kill(service.pid, signal.SIGHUP)
    assert os.WEXITSTATUS(service.wait()) == 9
    assert service.output() == "1 HUP\n"


def test_nothing_outlives_the_main_process(start: Start) -> None:
    line = "setsid sleep 600 & sleep 600 & echo; exec sleep 600"
    service = start("/bin/sh", "-c", line)
    assert service.launcher.stdout is not None
    service.launcher.stdout.readline()
    members = [Path(f"/proc/{pid}") for pid in namespace_of(service.pid)]
    assert len(members) == 3
    os.kill(service.pid, signal.SIGKILL)
    assert os.WTERMSIG(service.wait()) == signal.SIGKILL
    assert not any(path.exists() for path in members)


def namespace_of(pid: int) -> list[int]:
    """All processes in the PID namespace of this one."""
    wanted, found = os.stat(f"/proc/{pid}/ns/pid").st_ino, []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.stat(path / "ns/pid").st_ino == wanted:
                found.append(int(path.name))
    return found


def test_what_the_nodes_proc_hides_its_own_hides_too(start: Start) -> None:
    line = "mount -t proc -o hidepid=2,gid=7 proc /proc && exec \"$@\""
    before = ["unshare", "--mount", "sh", "-c", line, "sh"]
    service = start("/bin/sh", "-c", "grep ' /proc ' /proc/self/mountinfo", before=before)
    assert service.wait() == 0
    (line,) = service.output().splitlines()
    assert line.split()[-1] == "rw,gid=7,hidepid=invisible"


def test_of_several_procs_the_uppermost_counts() -> None:
    lines = [b"1 2 0:3 / /proc rw - proc proc rw,hidepid=2", b"4 5 0:6 / /proc rw - proc proc rw"]
    assert _hiding(b"\n".join(lines)) == b""
    assert _hiding(b"\n".join(reversed(lines))) == b"hidepid=2"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["/nonexistent"], 203, "cannot start /nonexistent in a PID namespace: No such file"),
        (["/etc/passwd"], 203, "cannot start /etc/passwd in a PID namespace: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed(
    start: Start, command: list[str], code: int, says: str
) -> None:
    service = start(*command)
    assert os.WEXITSTATUS(service.wait()) == code
    assert says in service.error()


def test_without_systemd_nothing_is_started(start: Start) -> None:
    service = start("/bin/echo", "started", environ={"NOTIFY_SOCKET": ""}, answers=False)
    assert service.launcher.wait(10) == 1
    assert service.output() == ""
    assert "systemd has given no NOTIFY_SOCKET; NotifyAccess=main" in service.error()


def test_until_systemd_knows_the_main_process_it_does_not_begin(start: Start) -> None:
    service = start("/bin/echo", "started", answers=False)
    with pytest.raises(subprocess.TimeoutExpired):
        service.launcher.wait(0.5)
    service.launcher.kill()  # it would have, after half a minute
    service.launcher.wait()
    assert service.output() == ""  # and this is read when the child has ended, too


@pytest.mark.parametrize("name", ["private-pids.conf", "private-pids-before-257.conf"])
def test_the_doctor_knows_whether_a_drop_in_is_in_force(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service = start("/bin/sleep", "600")
    monkeypatch.setattr(pid_namespace, "DROP_INS", tmp_path)
    (tmp_path / "gone.conf").symlink_to("/nonexistent")

    def found(master: int) -> Subject:
        monkeypatch.setattr(pid_namespace, "htcondors_master", lambda: master)
        subject = Subject("PID namespace")
        pid_namespace.pid_namespace(Node(), subject)
        return subject

    assert found(os.getpid()).status == found(service.pid).status == "ok"
    (tmp_path / name).symlink_to(SOURCE_ROOT / "share/condor-ledge/systemd" / name)
    (finding,) = found(os.getpid()).findings
    assert str(tmp_path / name) in finding.problem
    assert found(service.pid).summary == "HTCondor's own"


# ---- condor-ledge inside


class Job:
    """The job that runs in a namespace of HTCondor's; `pid` is its wrapper's in there."""

    def __init__(self, directory: Path) -> None:
        pid, place = (directory / "job").read_text().split()
        self.pid = int(pid)
        self.directory = Path(place)
        self.log = directory / "LedgeLog"

    def let_go(self) -> None:
        """Let it end, if it has not."""
        gate = os.open(self.directory / "gate", os.O_RDWR | os.O_NONBLOCK)
        os.write(gate, b"\n")
        os.close(gate)


@contextlib.contextmanager
def node(installed: Path, execute: Path, directory: Path, ledged: bool) -> Iterator[Job]:
    """HTCondor in a namespace, with a job, which is to end well."""
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", nobody().uid)
    service = node_inside(installed, execute, directory, slice_, ledged)
    try:
        wait_until(lambda: (directory / "job").exists() or ended(service), "no job starts")
        job = Job(directory)
        yield job
        job.let_go()
        assert os.WEXITSTATUS(service.wait()) == 7, service.error()
        wait_until(lambda: groups(slice_) == [], "groups are left")
    finally:
        service.close()
        slice_.remove()


def ended(service: Service) -> bool:
    state = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state != "Z", service.error()
    return False


def within(pid: int) -> list[int]:
    """A process's PIDs, outermost first."""
    status = Path(f"/proc/{pid}/status").read_text()
    return [int(word) for word in status.partition("NSpid:")[2].splitlines()[0].split()]


def check_ps(job: Job) -> dict[str, Any]:
    """PIDs of this namespace and of the job's own, whatever HTCondor's are."""
    (told,) = listed(JOB)
    assert (told["job"], told["slot"], told["owner"]) == (JOB, "slot1", "nobody")
    assert within(told["wrapper"]) == [told["wrapper"], job.pid]
    assert len(within(told["init"])) == 3
    shown = {one["pid"]: one["within"] for one in told["processes"]}
    assert shown[told["wrapper"]] is None and shown[told["init"]] == 1
    assert {pid for pid in shown if shown[pid]} == {pid for pid in shown if len(within(pid)) == 3}
    return told


def check_entering(job: Job) -> None:
    """Nothing in the job's group is nobody to HTCondor, which would kill its own group for it."""
    done = ledge("enter", JOB, "sh", "-c", "echo $$ $(ls -d /proc/[0-9]*); exit 9")
    assert (done.returncode, done.stderr) == (9, b"")
    assert b"/proc/1 " in done.stdout and len(done.stdout.split()) < 9
    command = entering("sleep", "600")
    wait_until(lambda: runs("sleep 600"), "the command does not run")
    (told,) = listed(JOB)
    (waiter,) = [one["pid"] for one in told["processes"] if " enter 1.0 " in one["command"]]
    assert len(within(waiter)) == 2
    assert all(len(within(one["pid"])) >= 2 for one in told["processes"])
    command.send_signal(signal.SIGSTOP)
    job.let_go()
    gone = Path(f"/proc/{waiter}")
    wait_until(lambda: not gone.exists(), "a caller that is stopped keeps the namespace there")
    command.send_signal(signal.SIGCONT)
    _, error = command.communicate(timeout=20)
    assert (command.returncode, error) == (-signal.SIGKILL, b"")


def test_commands_on_the_node_with_condor_ledge_inside(
    installed: Path, execute: Path, tmp_path: Path
) -> None:
    with node(installed, execute, tmp_path, ledged=True) as job:
        told = check_ps(job)
        assert [told["logged_wrapper"]] == within(told["wrapper"])[1:]
        assert [told["logged_init"], 1] == within(told["init"])[1:]
        line = f"the wrapper {told['logged_wrapper']}, its init is {told['logged_init']}\n"
        assert line in job.log.read_text()
        text = ledge("ps", "slot1").stdout.decode()
        assert f"wrapper {told['wrapper']} ({job.pid} in HTCondor's logs), " in text
        assert ledge("status").stdout.startswith(b"ledged ")
        check_asking()
        wait_until(used, "no CPU time is told, or nothing is read of the moment")
        check_entering(job)


def used() -> bool:
    (job,) = look(str(SOCKET)).jobs
    return (job.figures["CpuUserSeconds"] or 0) > 0 and "cpu" in job.pressure


@pytest.mark.usefixtures("_ledged")
def test_ledged_as_a_service_outside_launches_in_the_namespace_of_the_wrapper(
    installed: Path, execute: Path, tmp_path: Path
) -> None:
    with node(installed, execute, tmp_path, ledged=False) as job:
        assert "logged_wrapper" not in check_ps(job)
        check_entering(job)


OUTSIDE = b"a process outside of ledged's PID namespace"


def check_asking() -> None:
    """Who is outside asks as root, for what is root's, or not at all."""
    other = nobody().uid
    for connecting, asking, verb, says in (
        (0, 0, b"launch", OUTSIDE),
        (0, 0, b"settle", OUTSIDE),
        (other, other, b"launch", OUTSIDE),
        (other, other, b"status", b"status is for root"),
        (0, other, b"status", b"a message of another process than the one that connected"),
        (0, 0, b"status", b'"jobs": 1'),
    ):
        answer = asked(connecting, asking, verb)
        assert says in answer, (connecting, asking, verb, answer)


def asked(connecting: int, asking: int, verb: bytes) -> bytes:
    """What ledged answers to these users, the one that connects and the one that asks."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(connecting, connecting, 0)
            connection = Connection(str(SOCKET), 10)
            os.setresuid(asking, asking, asking)
            os.write(writing, connection.request(verb).body)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return told
