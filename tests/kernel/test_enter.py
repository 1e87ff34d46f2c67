"""condor_ledge ps and enter: which process is which, and a command inside a running job."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge.kernel import syscalls
from tests.installed import SOURCE_ROOT
from tests.kernel.cgroups import mount_point
from tests.kernel.command import JOB, PROGRAM, enter, entering, ledge, listed, process, runs
from tests.kernel.ledged import Ledged
from tests.kernel.starter import PATIENCE_SECONDS, Process, Starter
from tests.kernel.test_apart import CONNECT
from tests.kernel.threats.attacker import nobody, wait_until
from tests.kernel.visited import let_go, of_visited_jobs, start_anew, visited_job

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")

PYTHON = "/usr/bin/python3"
# Has a key in a new session keyring, and becomes the command, with the key's number for {key}.
HOLDER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.syscall(250, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
key = libc.syscall(248, b"user", b"ledge-test", b"secret", ctypes.c_size_t(6), -3)
os.execv(sys.argv[1], [word.replace("{key}", str(key)) for word in sys.argv[1:]])
"""
READER = """
import ctypes
libc, buffer = ctypes.CDLL(None), ctypes.create_string_buffer(6)
print(libc.syscall(250, 11, {key}, buffer, ctypes.c_size_t(6)), buffer.raw)
"""
TRACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
result = libc.ptrace(16, int(sys.argv[1]), None, None)
print(result, os.strerror(ctypes.get_errno()))
"""
NAMESPACES = ("pid", "mnt", "ipc", "uts", "net", "cgroup", "user")


@pytest.fixture
def ledged(_ledged: Ledged) -> Ledged:
    """By a name that a test may use as well."""
    return _ledged


@pytest.fixture
def starter(installed: Path, execute: Path, ledged: Ledged) -> Iterator[Starter]:
    """Of nobody's jobs, launched by ledged; nothing is left of them."""
    with of_visited_jobs(installed, execute, nobody()) as starter:
        yield starter


@pytest.fixture
def job(starter: Starter) -> Process:
    """One with a umask and an environment that are not the usual ones."""
    return visited_job(starter, 0o027, [b"ODD=\xff one", b"LD_BIND_NOW=1"])


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


# ---- ps


def test_ps_has_both_pids_of_every_process(job: Process) -> None:
    (told,) = listed(JOB)
    assert (told["job"], told["slot"], told["owner"]) == (JOB, "slot1", "nobody")
    assert told["wrapper"] == job.pid
    assert abs(told["started"] - time.time()) < 30
    assert process(told, "sleep")["within"] > 1
    for one in told["processes"]:
        inside = status_of(one["pid"])["NSpid"].split()[1:]
        assert one["within"] == (int(inside[0]) if inside else None)
    assert [one["pid"] for one in told["processes"] if one["within"] is None] == [job.pid]
    (init,) = [one for one in told["processes"] if one["within"] == 1]
    assert init["pid"] == told["init"]
    text = ledge("ps", "slot1").stdout.decode()
    assert re.search(rf"(?m)^ +{init['pid']} +1 S ", text), text
    assert let_go(job) == 7


def test_ps_maps_a_pid_both_ways(job: Process) -> None:
    sleep = process(listed(JOB)[0], "sleep")
    (by_pid,) = listed("--pid", str(sleep["pid"]))
    (by_inside,) = listed(JOB, "--inside", str(sleep["within"]))
    assert process(by_pid, "sleep")["within"] == sleep["within"]
    assert process(by_inside, "sleep")["pid"] == sleep["pid"]
    assert [len(one["processes"]) for one in (by_pid, by_inside)] == [1, 1]
    none = ledge("ps", "--pid", str(os.getpid()))
    assert (none.returncode, none.stdout) == (1, b"")


def test_ps_of_a_process_in_a_pid_namespace_of_the_job_s_own(starter: Starter) -> None:
    line = "unshare -Urpf sh -c 'touch running; exec sleep 600'"
    job = starter.start("/bin/sh", "-c", line)
    job.wait_for("running")
    sleep = process(listed(JOB)[0], "sleep")
    expected = [str(sleep["pid"]), str(sleep["within"]), "1"]
    assert status_of(sleep["pid"])["NSpid"].split() == expected


def test_ps_knows_a_job_from_before_ledged_was_started_anew(
    installed: Path, job: Process, ledged: Ledged
) -> None:
    before = listed(JOB)[0]
    start_anew(ledged, installed)
    (after,) = listed()
    known = ("uid", "wrapper", "init", "slice", "group")
    assert [after[name] for name in known] == [before[name] for name in known]
    assert after["job"] is None  # what the job could have written is not believed
    assert process(after, "sleep")["within"] == process(before, "sleep")["within"]
    assert "slot" in after
    assert let_go(job) == 7


def test_ps_and_enter_are_for_root() -> None:
    for subcommand in ("ps", "enter"):
        # The interpreter of the tests may be where nobody else can reach it.
        done = subprocess.run(
            ["/usr/bin/python3", "-m", "ledge", subcommand, JOB],
            cwd=SOURCE_ROOT, user="nobody", capture_output=True,
        )  # fmt: skip
        assert done.returncode == 125
        assert b"for root" in done.stderr


def test_the_log_has_the_pids_of_a_launch(job: Process, ledged: Ledged) -> None:
    told = listed(JOB)[0]
    first = min(one["within"] for one in told["processes"] if (one["within"] or 0) > 1)
    (pid,) = [one["pid"] for one in told["processes"] if one["within"] == first]
    expected = f"the job's first process is {pid}, and {first} to the job (its init {told['init']})"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(expected in line for line in ledged.lines()):
        assert time.monotonic() < deadline, ledged.lines()
        time.sleep(0.05)
    launched = f": launched for the wrapper {job.pid}, its init is {told['init']}"
    assert any(launched in line for line in ledged.lines())


# ---- enter


def test_the_command_is_where_the_job_is(job: Process) -> None:
    sleep = process(listed(JOB)[0], "sleep")["pid"]
    names = " ".join(NAMESPACES)
    line = f"for name in {names}; do readlink /proc/self/ns/$name; done; pwd; umask"
    found = enter("/bin/sh", "-c", line).decode().split()
    expected = [os.readlink(f"/proc/{sleep}/ns/{name}") for name in NAMESPACES]
    assert found == [*expected, str(job.directory), "0027"]
    # As the job sees it and as the node does.
    assert enter("cat", "/proc/self/cgroup").splitlines()[-1] == b"0::/job"
    group = Path(f"/proc/{sleep}/cgroup").read_text().rpartition("::")[2].strip()
    root = mount_point()
    assert root is not None
    command = entering("cat")
    wait_until(lambda: runs("cat"), "it does not run")
    entered = process(listed(JOB)[0], "cat")["pid"]
    members = (root / group[1:] / "cgroup.procs").read_text().split()
    assert str(entered) in members
    command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode == 0
    assert let_go(job) == 7


def test_the_command_has_the_rights_of_the_job_and_no_more(job: Process) -> None:
    sleep = status_of(process(listed(JOB)[0], "sleep")["pid"])
    text = enter("cat", "/proc/self/status").decode()
    found = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    same = ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigBlk", "Umask"]
    same += [f"Cap{kind}" for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert {name: found[name] for name in same} == {name: sleep[name] for name in same}
    limits = Path(f"/proc/{process(listed(JOB)[0], 'sleep')['pid']}/limits").read_text()
    assert enter("cat", "/proc/self/limits").decode() == limits
    descriptors = enter("/bin/sh", "-c", "ls /proc/$$/fd; readlink /proc/$$/fd/*; true").decode()
    assert re.fullmatch(r"0\n1\n2\n(pipe:\[\d+\]\n){3}", descriptors), descriptors


def test_its_environment_is_the_job_s_byte_for_byte(job: Process) -> None:
    first = process(listed(JOB)[0], "/bin/sh -c umask")["pid"]
    expected = Path(f"/proc/{first}/environ").read_bytes()
    assert b"ODD=\xff one\0" in expected
    assert enter("cat", "/proc/self/environ") == expected


def test_it_ends_as_its_command(job: Process) -> None:
    assert ledge("enter", JOB, "/bin/sh", "-c", "exit 42").returncode == 42
    assert ledge("enter", JOB, "/bin/sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    missing = ledge("enter", JOB, "no-such-command")
    assert (missing.returncode, b"No such file" in missing.stderr) == (127, True)
    assert ledge("enter", JOB, "/etc/passwd").returncode == 126
    nowhere = ledge("enter", "9.9", "true")
    assert (nowhere.returncode, b"no job 9.9 runs here" in nowhere.stderr) == (125, True)
    assert let_go(job) == 7


def test_all_bytes_pass(job: Process) -> None:
    data = bytes(range(256)) * 4096
    assert enter("cat", stdin=data) == data
    done = ledge("enter", JOB, "/bin/sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_the_job_ends_as_without_and_takes_the_command_along(job: Process, tmp_path: Path) -> None:
    """Even if the caller is stopped: the end of a PID namespace waits for all that were in it."""
    command = entering("/bin/sh", "-c", "trap '' HUP TERM; echo in; sleep 600; sleep 600")
    assert command.stdout and command.stdout.readline() == b"in\n"
    command.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert let_go(job) == 7
    assert time.monotonic() - began < 2
    command.send_signal(signal.SIGCONT)
    command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode == -signal.SIGKILL


def test_a_caller_that_dies_ends_the_command(job: Process) -> None:
    command = entering("sleep", "599")
    wait_until(lambda: runs("sleep 599"), "it does not run")
    command.kill()
    command.communicate()
    wait_until(lambda: not runs("sleep 599"), "it goes on")
    assert let_go(job) == 7


def test_a_suspended_job_is_not_entered(job: Process, starter: Starter) -> None:
    assert starter.slice
    (starter.slice.path / "cgroup.freeze").write_text("1")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "frozen 1" not in (starter.slice.path / "cgroup.events").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done = ledge("enter", JOB, "true")
    (starter.slice.path / "cgroup.freeze").write_text("0")
    assert (done.returncode, b"suspended" in done.stderr) == (125, True)
    assert let_go(job) == 7


@pytest.mark.requires("x86_64")  # the numbers of the system calls
def test_nothing_of_the_caller_s_session_keyring_goes_along(job: Process) -> None:
    def holder(*words: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-c", HOLDER, *words], cwd=SOURCE_ROOT, capture_output=True
        )
        return done.stdout

    assert holder(PYTHON, "-c", READER) == b"6 b'secret'\n"
    entered = holder(*PROGRAM, "enter", JOB, PYTHON, "-c", READER)
    assert entered == b"-1 b'\\x00\\x00\\x00\\x00\\x00\\x00'\n"


@pytest.mark.requires("landlock_scopes")
def test_only_with_trace_it_may_trace_and_reach_abstract_sockets(job: Process) -> None:
    sleep = str(process(listed(JOB)[0], "sleep")["within"])
    name = f"ledge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        for options, traced, connected in (
            ((), b"-1 Operation not permitted\n", b"Operation not permitted\n"),
            (("--trace",), b"0 Success\n", b"connected\n"),
        ):
            for program, word, expected in (
                (TRACER, sleep, traced), (CONNECT, name, connected)
            ):  # fmt: skip
                done = ledge("enter", *options, JOB, PYTHON, "-c", program, word)
                assert done.stdout == expected, done


def test_as_root(job: Process) -> None:
    line = "id -u; readlink /proc/self/ns/pid; echo $ODD$LD_BIND_NOW; pwd"
    line += "; tail -1 /proc/self/cgroup"
    done = ledge("enter", "--root", JOB, "/bin/sh", "-c", line)
    sleep = process(listed(JOB)[0], "sleep")["pid"]
    space = os.readlink(f"/proc/{sleep}/ns/pid")
    assert done.stdout.decode().split("\n")[:5] == ["0", space, "", "/", "0::/job"]


@pytest.mark.parametrize("cgroup", ["leaf", "none"])
def test_a_job_without_a_pid_namespace(
    installed: Path, starter: Starter, ledged: Ledged, cgroup: str
) -> None:
    """The command dies with the job all the same, and what it has started."""
    policy = f"version: 1\ndefaults:\n  namespaces: [mount, ipc]\n  cgroup: {cgroup}\n"
    ledged.policy.write_text(policy)
    try:
        start_anew(ledged, installed)
        job = starter.start(
            "/bin/sh", "-c", "touch running; read line <gate; exit 7",
            before=lambda: os.mkfifo("gate"),
        )  # fmt: skip
        job.wait_for("running")
        told = listed(JOB)[0]
        assert {one["within"] for one in told["processes"]} == {
            one["pid"] for one in told["processes"]
        }
        command = entering("/bin/sh", "-c", "setsid sleep 598 & trap '' HUP; sleep 599")
        wait_until(lambda: runs("sleep 598") and runs("sleep 599"), "it does not run")
        assert let_go(job) == 7
        command.communicate(timeout=PATIENCE_SECONDS)
        assert command.returncode == -signal.SIGKILL
        assert starter.slice and starter.slice.is_empty()
    finally:
        ledged.policy.unlink()
        start_anew(ledged, installed)


def test_a_job_in_a_user_namespace(installed: Path, starter: Starter, ledged: Ledged) -> None:
    """As one is that was started while there was no ledged."""
    alone = Starter(installed / "job_wrapper_alone", starter.execute, starter.user, starter.slice)
    job = alone.start("/bin/sleep", "600")
    time.sleep(0.5)
    start_anew(ledged, installed)
    (told,) = listed()
    sleep = process(told, "/bin/sleep")["pid"]
    assert starter.slice
    name = starter.slice.path.name
    assert os.readlink(f"/proc/{sleep}/ns/user") != os.readlink("/proc/self/ns/user")
    line = "readlink /proc/self/ns/user /proc/self/ns/pid; id -un; grep CapEff /proc/self/status"
    done = ledge("enter", name, "/bin/sh", "-c", line)
    expected = [os.readlink(f"/proc/{sleep}/ns/{name}") for name in ("user", "pid")]
    assert done.stdout.decode().split() == [*expected, "nobody", "CapEff:", "0" * 16], done
    assert ledge("enter", "--root", name, "true").returncode == 125
    alone.close()
    assert job.status is not None


class StarterWithPidNamespaces(Starter):
    """With USE_PID_NAMESPACES: condor_pid_ns_init is the wrapper's parent, and PID 1."""

    def _become(self, directory: Path) -> None:
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS)
        init = os.fork()
        if init:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))
        syscalls.mount(b"none", b"/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        syscalls.mount(b"proc", b"/proc", b"proc", 0)
        syscalls.prctl(syscalls.PR_SET_NAME, b"condor_pid_ns_init\0")
        super()._become(directory)
        wrapper = os.fork()
        if wrapper:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(wrapper, 0)[1]))
        os.setsid()


def test_a_job_in_a_pid_namespace_of_htcondor_s(installed: Path, starter: Starter) -> None:
    """It has a third PID there, between the node's and its own."""
    assert starter.slice
    by_htcondor = StarterWithPidNamespaces(
        installed / "job_wrapper", starter.execute, starter.user, starter.slice
    )
    job = by_htcondor.start(
        "/bin/sh", "-c", "touch running; read line <gate; exit 7", before=lambda: os.mkfifo("gate")
    )
    job.wait_for("running")
    (told,) = listed(JOB)
    shell = process(told, "/bin/sh")
    assert [len(status_of(shell["pid"])["NSpid"].split()), shell["within"]] == [3, 3]
    assert enter("cat", "/proc/1/comm") == b"ledge_init\n"
    assert enter("readlink", "/proc/self/ns/pid").decode().strip() == os.readlink(
        f"/proc/{shell['pid']}/ns/pid"
    )
    assert let_go(job) == 7
    by_htcondor.close()


class Terminal:
    """A command at a terminal; what comes out is in `text`."""

    def __init__(self, *command: str) -> None:
        self.pid, self.fd = pty.fork()
        self.text = b""
        if self.pid == 0:
            os.chdir(SOURCE_ROOT)
            os.execvp(command[0], command)

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = re.search(pattern, self.text, re.DOTALL)
            if found:
                self.text = self.text[found.end() :]
                return found
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.text += os.read(self.fd, 65536)

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return status


def test_a_terminal_of_the_job_s_own(job: Process) -> None:
    terminal = Terminal(*PROGRAM, "enter", JOB, "/bin/sh")
    terminal.expect(rb"PIDs are the job's own.*\$ $")
    terminal.type(b"tty; id -un; stty size; echo p'i'd=$$.\r")
    assert terminal.expect(rb"(/dev/pts/\d+)\r\n")[1] == b"/dev/pts/0"  # the job's first one
    terminal.expect(rb"nobody\r\n")
    terminal.expect(rb"\d+ \d+\r\n")
    assert int(terminal.expect(rb"pid=(\d+)\.")[1]) < 100
    termios.tcsetwinsize(terminal.fd, (33, 77))
    terminal.type(b"stty size\r")
    terminal.expect(rb"33 77\r\n")
    terminal.type(b"sleep 600\r")
    time.sleep(0.3)
    terminal.type(b"\x03")  # is for the command, and not for the relay
    terminal.type(b"echo st'i'll\r")
    terminal.expect(rb"still\r\n")
    terminal.type(b"exit 9\r")
    assert os.WEXITSTATUS(terminal.wait()) == 9
    assert let_go(job) == 7
