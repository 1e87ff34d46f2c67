"""Sessions of condor_ssh_to_job: in the job, and otherwise as they are without condor-ledge."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.cgroups import mount_point
from tests.kernel.command import JOB, enter, listed, process
from tests.kernel.ledged import Ledged
from tests.kernel.sshd import OpenSsh, Sshd
from tests.kernel.starter import JOB_AD, PATIENCE_SECONDS, Process, Starter, User
from tests.kernel.test_enter import NAMESPACES, TRACER, Terminal
from tests.kernel.threats.attacker import nobody, wait_until
from tests.kernel.visited import let_go, of_visited_jobs, start_anew, visited_job

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")

PYTHON = "/usr/bin/python3"
# What a program finds out about itself: all that is to be as without, and where it is.
PROBE = """
import json, os, resource, signal, sys
def lines(path):
    return dict(line.split(":\\t", 1) for line in open(path).read().splitlines() if ":\\t" in line)
status = lines("/proc/self/status")
same = {name: status[name] for name in status if name.startswith(("Uid", "Gid", "Groups", "Cap",
        "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "Umask"))}
same["environ"] = sorted(open("/proc/self/environ", "rb").read().decode("latin1").split("\\0"))
same["cwd"], same["argv"] = os.getcwd(), sys.argv[1:]
same["nice"], same["oom"] = os.nice(0), open("/proc/self/oom_score_adj").read()
same["limits"] = open("/proc/self/limits").read()
same["affinity"] = sorted(os.sched_getaffinity(0))
same["fds"] = {fd: os.readlink("/proc/self/fd/" + fd).split(":")[0]
               for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)}
same["leads"] = os.getsid(0) == os.getpid() == os.getpgid(0)
print(json.dumps([same, {name: os.readlink("/proc/self/ns/" + name) for name in os.listdir(
    "/proc/self/ns")}, open("/proc/self/cgroup").read().splitlines()[-1], os.getpid()]))
"""


@pytest.fixture
def ledged(_ledged: Ledged) -> Ledged:
    """By a name that a test may use as well."""
    return _ledged


# The program of interactive jobs, from HTCondor's interactive.sub.
AWAIT_SESSION = (
    "sleep 180 && while test -d ${_CONDOR_SCRATCH_DIR}/.condor_ssh_to_job_1; do sleep 3; done"
)
INTERACTIVE = f'InteractiveJob = true\nArguments = "-c \'{AWAIT_SESSION}\'"\n'
# sshd takes a user with a shell, and "nobody" it may find locked (nss-systemd).
VISITOR = User("visitor", 61234, 61234)


@pytest.fixture
def starter(
    installed: Path, execute: Path, ledged: Ledged, request: pytest.FixtureRequest
) -> Iterator[Starter]:
    """Of a user's jobs, launched by ledged; nothing is left of them."""
    user = VISITOR if "open_ssh" in request.fixturenames else nobody()
    with of_visited_jobs(installed, execute, user) as starter:
        yield starter


@pytest.fixture
def job(starter: Starter) -> Process:
    return visited_job(starter)


@pytest.fixture
def sshd(starter: Starter, job: Process) -> Iterator[Sshd]:
    sshd = Sshd(starter, job)
    yield sshd
    sshd.close()


def probed(text: str) -> tuple[dict[str, Any], dict[str, str], str, int]:
    same, namespaces, cgroup, pid = json.loads(text)
    return same, namespaces, cgroup, pid


def of_job() -> dict[str, str]:
    """The namespaces of the job's processes, by its child's."""
    sleep = process(listed(JOB)[0], "sleep")["pid"]
    return {name: os.readlink(f"/proc/{sleep}/ns/{name}") for name in NAMESPACES}


def slept(seconds: int) -> bool:
    """Whether a process sleeps that long in the job."""
    command = f"sleep {seconds}"
    return any(one["command"] == command for one in listed(JOB)[0]["processes"])


def test_in_the_job_and_otherwise_as_without(sshd: Sshd, job: Process) -> None:
    words = (PYTHON, "-ISEc", PROBE, "a b", "")
    same, namespaces, cgroup, pid = probed(sshd.said(*words))
    without, outside, beside, _ = probed(sshd.said(*words, wrapped=False))
    # The wrapper takes out what tells HTCondor that a wrapper failed.
    without["environ"] = [
        line for line in without["environ"] if not line.startswith("_CONDOR_WRAPPER_ERROR_FILE=")
    ]
    assert same == without
    assert {name: namespaces[name] for name in NAMESPACES} == of_job()
    differs = {name for name in NAMESPACES if namespaces[name] != outside[name]}
    assert differs >= {"pid", "mnt", "ipc", "cgroup"}
    assert cgroup.startswith("0::/session-")
    assert sshd.slice
    assert beside == f"0::/{sshd.slice.path.name}/test.scope"
    assert pid < 100
    assert let_go(job) == 7


@pytest.mark.parametrize("wrapped", [True, False])
def test_how_it_ends(sshd: Sshd, wrapped: bool) -> None:
    """By its own exit code, by a signal of its own, and by those of the starter."""
    exits = sshd.session("/bin/sh", "-c", "exit 7", wrapped=wrapped)
    assert os.waitstatus_to_exitcode(exits.process.wait()) == 7
    exits.client.close()
    dies = sshd.session("/bin/sh", "-c", "kill -USR1 $$", wrapped=wrapped)
    assert os.waitstatus_to_exitcode(dies.process.wait()) == -signal.SIGUSR1
    dies.client.close()
    told = sshd.session(
        "/bin/sh", "-c", "trap 'exit 9' TERM; echo ready; sleep 597 & wait", wrapped=wrapped
    )
    assert told.client.recv(64) == b"ready\n"
    os.kill(told.process.pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(told.process.wait()) == 9
    told.client.close()


def test_all_of_it_goes_with_its_wrapper(sshd: Sshd, job: Process) -> None:
    """As HTCondor kills a session: by its control group. The job goes on."""
    line = "setsid sleep 598 & trap '' HUP TERM; echo ready; sleep 599"
    session = sshd.session("/bin/sh", "-c", line)
    assert session.client.recv(64) == b"ready\n"
    wait_until(lambda: slept(598) and slept(599), "they do not run")
    assert sshd.slice
    (sshd.slice.path / "cgroup.kill").write_text("1")
    assert session.process.wait() == signal.SIGKILL
    wait_until(lambda: not slept(598) and not slept(599), "they go on")
    assert session.client.recv(64) == b""
    session.client.close()
    assert slept(600)
    wait_until(lambda: sessions(job) == [], "its group is left")
    assert let_go(job) == 7


def sessions(job: Process) -> list[str]:
    """The groups of sessions in the job's."""
    (told,) = listed(JOB)
    root = mount_point()
    assert root
    own = root / str(told["slice"]).lstrip("/") / f"ledge-{job.pid}"
    return sorted(path.name for path in own.glob("session-*"))


def test_the_job_ends_as_without_and_takes_the_session_along(sshd: Sshd, job: Process) -> None:
    session = sshd.session("/bin/sh", "-c", "trap '' HUP TERM; echo ready; sleep 599")
    assert session.client.recv(64) == b"ready\n"
    begin = time.monotonic()
    assert let_go(job) == 7
    assert time.monotonic() - begin < 2.0
    assert session.process.wait() == signal.SIGKILL
    assert session.client.recv(64) == b""
    session.client.close()


def test_what_it_leaves_stays_in_the_job(sshd: Sshd, job: Process) -> None:
    """Until the job ends, as without; and no longer."""
    sshd.said("/bin/sh", "-c", "setsid sleep 598 >/dev/null 2>&1 </dev/null &")
    assert slept(598)
    assert let_go(job) == 7


def test_two_at_once(sshd: Sshd, job: Process) -> None:
    first = sshd.session("/bin/sh", "-c", "echo $$; read line; exit 1")
    second = sshd.session("/bin/sh", "-c", "echo $$; read line; exit 2")
    shells = {first.client.recv(64).strip(), second.client.recv(64).strip()}
    assert shells < set(enter("ps", "-o", "pid=", "-e").split())
    for number, session in ((2, second), (1, first)):
        session.client.sendall(b"\n")
        assert os.waitstatus_to_exitcode(session.process.wait()) == number
        session.client.close()
    assert let_go(job) == 7


def test_a_debugger_finds_the_job(sshd: Sshd, job: Process) -> None:
    """What condor_ssh_to_job is for; a Landlock domain of its own would keep it off."""
    sleep = str(process(listed(JOB)[0], "sleep")["within"])
    assert sshd.said(PYTHON, "-ISEc", TRACER, sleep) == "0 Success\n"


def test_what_it_uses_is_the_job_s(sshd: Sshd, job: Process) -> None:
    """And stays so when it has ended."""
    sshd.said(PYTHON, "-ISEc", "import time\nwhile time.process_time() < 1: pass")
    root = mount_point()
    assert root
    stat = root / str(listed(JOB)[0]["slice"]).lstrip("/") / f"ledge-{job.pid}" / "cpu.stat"
    assert int(stat.read_text().split()[1]) > 1_000_000
    assert let_go(job) == 7


def outside(sshd: Sshd) -> tuple[str, str]:
    """What keeps a session out of the job, and its PID namespace, which is the node's."""
    session = sshd.session("/usr/bin/readlink", "/proc/self/ns/pid")
    text = session.output().strip()
    assert session.process.wait() == 0
    return session.log, text


def assert_outside(sshd: Sshd, why: str) -> None:
    log, namespace = outside(sshd)
    assert namespace == os.readlink("/proc/self/ns/pid")
    assert log.startswith("condor-ledge: this session is not in the job's namespaces")
    assert why in log, log


def test_a_suspended_job_is_not_entered(sshd: Sshd, starter: Starter, job: Process) -> None:
    assert starter.slice
    freezer = starter.slice.path / "cgroup.freeze"
    freezer.write_text("1")
    try:
        assert_outside(sshd, "suspended")
    finally:
        freezer.write_text("0")
    assert let_go(job) == 7


def test_without_a_job_of_ledged_s(sshd: Sshd, job: Process) -> None:
    assert let_go(job) == 7
    assert_outside(sshd, "no job")


def test_without_ledged_and_when_it_is_back(
    installed: Path, sshd: Sshd, ledged: Ledged, job: Process
) -> None:
    namespaces = of_job()
    ledged.kill()
    try:
        begin = time.monotonic()
        assert_outside(sshd, "ledged does not answer")
        assert time.monotonic() - begin < 5
    finally:
        ledged.process = Ledged(installed, ledged.log.parent).process  # the fixture ends it
    assert sshd.said("/usr/bin/readlink", "/proc/self/ns/pid").strip() == namespaces["pid"]
    assert let_go(job) == 7


def test_a_job_in_a_user_namespace_is_not_entered(
    installed: Path, starter: Starter, ledged: Ledged
) -> None:
    """As one that was started while there was no ledged: sshd would see root as nobody."""
    alone = Starter(installed / "job_wrapper_alone", starter.execute, starter.user, starter.slice)
    job = alone.start("/bin/sh", "-c", "touch running; exec sleep 600")
    job.wait_for("running")
    start_anew(ledged, installed)
    with contextlib.closing(Sshd(starter, job)) as sshd:
        assert_outside(sshd, "user namespace")
    alone.close()


@pytest.mark.parametrize("cgroup", ["leaf", "none"])
def test_a_job_without_a_pid_namespace(
    installed: Path, starter: Starter, ledged: Ledged, cgroup: str
) -> None:
    """The session is in what the job has, and goes with it all the same."""
    policy = f"version: 1\ndefaults:\n  namespaces: [mount, ipc]\n  cgroup: {cgroup}\n"
    ledged.policy.write_text(policy)
    try:
        start_anew(ledged, installed)
        job = starter.start(
            "/bin/sh", "-c", "touch running; read line <gate; exit 7",
            before=lambda: os.mkfifo("gate"),
        )  # fmt: skip
        job.wait_for("running")
        shell = process(listed(JOB)[0], "/bin/sh")["pid"]
        with contextlib.closing(Sshd(starter, job)) as sshd:
            line = "readlink /proc/self/ns/mnt; setsid sleep 598 & trap '' HUP; sleep 599"
            session = sshd.session("/bin/sh", "-c", line)
            assert session.client.recv(64).decode().strip() == os.readlink(f"/proc/{shell}/ns/mnt")
            wait_until(lambda: slept(598) and slept(599), "they do not run")
            assert let_go(job) == 7
            assert session.process.wait() == signal.SIGKILL
            session.client.close()
        assert starter.slice and starter.slice.is_empty()
    finally:
        ledged.policy.unlink()
        start_anew(ledged, installed)


def test_what_is_not_in_the_job_is_executed_beside_it(sshd: Sshd, job: Process) -> None:
    program = sshd.job.directory.parent / "sshd"
    program.write_text("#!/nowhere\n")
    program.chmod(0o755)
    session = sshd.session(program=str(program))
    session.client.close()
    assert session.process.wait() != 0
    assert "execute the session's sshd in the job" in session.log
    assert session.process.wrapper_error == b""  # which would be the job's


# ---- with OpenSSH


@pytest.fixture
def open_ssh(
    starter: Starter, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[OpenSsh]:
    """A job's, whose user is in no file of this machine's: in HTCondor a library says so."""
    user = starter.user
    entry = f"{user.name}:x:{user.uid}:{user.gid}::{starter.execute}:/bin/bash\n"
    (tmp_path / "passwd").write_text(entry)
    starter.mounts[tmp_path / "passwd"] = Path("/etc/passwd")
    line = "touch running; read line <gate; exit 7"
    if "interactive" in request.fixturenames:
        line, starter.job_ad = f"touch running; {AWAIT_SESSION}", JOB_AD + INTERACTIVE
    job = starter.start("/bin/sh", "-c", line, before=lambda: os.mkfifo("gate"))
    job.wait_for("running")
    sshd = Sshd(starter, job)
    open_ssh = OpenSsh(sshd)
    yield open_ssh
    open_ssh.close()
    sshd.close()


@pytest.mark.requires("sshd")
def test_a_command_by_ssh(open_ssh: OpenSsh) -> None:
    line = "readlink /proc/self/ns/pid; echo $_CONDOR_JOB_PIDS; pwd; id -un; exit 7"
    status, text, session = open_ssh.run(*open_ssh.ssh(line))
    shell = process(listed(JOB)[0], "/bin/sh")
    directory = open_ssh.sshd.job.directory
    assert text.split() == [
        os.readlink(f"/proc/{shell['pid']}/ns/pid"), str(shell["within"]), str(directory),
        VISITOR.name,
    ], session.log  # fmt: skip
    assert status == 7
    assert let_go(open_ssh.sshd.job) == 7


@pytest.mark.requires("sshd")
def test_a_terminal_by_ssh(open_ssh: OpenSsh) -> None:
    terminal = Terminal(*open_ssh.ssh("-t", "tty; read line; exit $line"))
    session = open_ssh.accept()
    terminal.expect(rb"/dev/pts/0\r\n")  # the job's first one
    terminal.type(b"9\r")
    assert os.WEXITSTATUS(terminal.wait()) == 9
    session.process.wait()
    assert let_go(open_ssh.sshd.job) == 7


@pytest.mark.requires("sshd")
def test_files_by_scp(open_ssh: OpenSsh, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(os.urandom(1 << 20))
    target = open_ssh.sshd.job.directory / "there"
    options = open_ssh.options("-P")
    for words in (
        (str(tmp_path / "there"), f"{VISITOR.name}@127.0.0.1:{target}"),
        (f"{VISITOR.name}@127.0.0.1:{target}", str(tmp_path / "back")),
    ):
        status, text, session = open_ssh.run("scp", *options, *words)
        assert (status, text) == (0, ""), session.log
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()
    assert let_go(open_ssh.sshd.job) == 7


@pytest.mark.requires("sshd")
def test_the_job_ends_while_somebody_is_logged_in(open_ssh: OpenSsh) -> None:
    client = subprocess.Popen(
        open_ssh.ssh("echo ready; sleep 600"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    session = open_ssh.accept()
    assert client.stdout and client.stdout.readline() == "ready\n"
    begin = time.monotonic()
    assert let_go(open_ssh.sshd.job) == 7
    assert time.monotonic() - begin < 2.0
    _, error = client.communicate(timeout=PATIENCE_SECONDS)
    assert client.returncode == 255
    assert "closed" in error
    assert session.process.wait() == signal.SIGKILL


@pytest.fixture
def interactive() -> None:
    """The job of `open_ssh` is one of condor_submit -interactive."""


@pytest.mark.requires("sshd")
@pytest.mark.usefixtures("interactive")
@pytest.mark.parametrize("wrapped", [True, False])
def test_an_interactive_job(open_ssh: OpenSsh, wrapped: bool) -> None:
    """It ends when its session has, and in the same way; with us it does not end before."""
    job = open_ssh.sshd.job
    open_ssh.sshd.wrapped = wrapped
    client = subprocess.Popen(
        open_ssh.ssh("readlink /proc/self/ns/pid; read line; exit 7"), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    session = open_ssh.accept()
    assert client.stdout and client.stdin
    namespace = client.stdout.readline().strip()
    if wrapped:
        shell = process(listed(JOB)[0], "/bin/sh")
        assert namespace == os.readlink(f"/proc/{shell['pid']}/ns/pid")
    else:
        assert namespace == os.readlink("/proc/self/ns/pid")
        assert job.wait() == signal.SIGTERM
    client.communicate("\n", timeout=PATIENCE_SECONDS)
    assert client.returncode == 7
    session.process.wait()
    assert job.wait(2.0) == signal.SIGTERM


@pytest.mark.requires("sshd")
@pytest.mark.usefixtures("interactive")
def test_an_interactive_job_outlives_who_did_not_get_in(open_ssh: OpenSsh) -> None:
    with socket.create_connection(("127.0.0.1", open_ssh.port)):
        session = open_ssh.accept()
    session.process.wait()
    assert process(listed(JOB)[0], "sleep")
