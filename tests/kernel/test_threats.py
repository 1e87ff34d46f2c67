"""What stops an attacker: the tests that docs/threats.md names, against the real ledged."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import signal
import socket
import struct
import subprocess
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.daemon.log import MOST_COMPLAINTS
from ledge.daemon.server import Impatience
from ledge.kernel import mounts, syscalls
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import SOCKET, Ledged
from tests.kernel.starter import PATIENCE_SECONDS, Process, Starter, User

PYTHON = "/usr/bin/python3"
FORGER = (Path(__file__).parent / "forger.py").read_text()
AT_MOST_SECONDS = 2.0  # that ledged answers within, whatever anybody does
CAP_NET_RAW = 13
VERBS = ["reserve", "launch", "settle", "status"]
_libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


def nobody() -> User:
    entry = pwd.getpwnam("nobody")
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def groups(slice_: Slice) -> list[str]:
    """What is in the slice, while ledged may be about to remove it."""
    while True:
        try:
            return slice_.groups()
        except FileNotFoundError:
            continue


class Attacker(Starter):
    """A starter whose children say to ledged what tests/kernel/forger.py has."""

    def attack(self, *words: str) -> Process:
        """Start a function of the forger's."""
        return self.start(PYTHON, "-ISEc", FORGER, *words, wrapped=False)

    def forge(self, *words: str) -> str:
        """What a function of the forger's says."""
        process = self.attack(*words)
        process.wait()
        assert process.error == b""
        return process.output.decode()

    def close(self) -> None:
        super().close()
        if self.slice is not None:
            (self.slice.path / "cgroup.kill").write_text("1")
            wait_until(self.slice.is_empty, "processes are left")


@pytest.fixture
def ledged(_ledged: Ledged) -> Ledged:
    """By a name that a test may use as well."""
    return _ledged


@pytest.fixture
def slice_() -> Iterator[Slice]:
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", nobody().uid)
    yield slice_
    try:
        wait_until(lambda: groups(slice_) == [], "groups are left")
    finally:
        slice_.remove()


@pytest.fixture
def attacker(
    installed: Path, execute: Path, ledged: Ledged, slice_: Slice
) -> Iterator[Attacker]:
    """In a job's slice, as HTCondor makes it; afterwards ledged serves, and nothing is left."""
    attacker = Attacker(installed / "job_wrapper", execute, nobody(), slice_)
    mounted = Path("/proc/self/mountinfo").read_text()
    time.sleep(0.02)  # ledged may be about to see that the test before has gone
    before = descriptors(ledged)
    yield attacker
    attacker.close()
    wait_until(lambda: no_more(descriptors(ledged), before), "descriptors are left")
    assert Path("/proc/self/mountinfo").read_text() == mounted
    assert_serving()


def descriptors(ledged: Ledged) -> tuple[int, int]:
    """How many descriptors ledged and its launcher have, reservations apart."""
    (launcher,) = ledged.children("ledge_launcher")
    paths = list(Path(f"/proc/{ledged.process.pid}/fd").iterdir())
    counted = [path for path in paths if not is_of_ours(path)]
    return len(counted), len(os.listdir(f"/proc/{launcher}/fd"))


def no_more(found: tuple[int, int], before: tuple[int, int]) -> bool:
    return found[0] <= before[0] and found[1] <= before[1]


def is_of_ours(path: Path) -> bool:
    """Whether a descriptor of ledged's is of this process, the starter of all jobs, or is gone."""
    try:
        info = Path(str(path).replace("/fd/", "/fdinfo/")).read_text()
        return os.readlink(path) == f"/proc/{os.getpid()}" or f"Pid:\t{os.getpid()}\n" in info
    except OSError:
        return True


def status() -> tuple[bytes, float]:
    """ledged's status, as root gets it, and the seconds that it took."""
    begin = time.monotonic()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(SOCKET))
        nonce = connection.recv(256).split()[2]
        connection.sendall(b"status 1 %s 0\n" % nonce)
        return connection.recv(65536), time.monotonic() - begin


def assert_serving() -> None:
    answer, seconds = status()
    assert answer.startswith(b"done")
    assert seconds < AT_MOST_SECONDS


# ---- who may ask


def test_any_user_may_connect_and_gets_nothing(attacker: Attacker) -> None:
    lines = attacker.forge("ask_from_child").splitlines()
    assert [line.partition(":")[0] for line in lines] == VERBS
    assert [line.split()[1] for line in lines] == ["error", "refused", "refused", "error"]
    assert all("a child of python3 and not of HTCondor's starter" in line for line in lines[:3])
    assert "status is for root" in lines[3]


def test_the_name_alone_makes_no_starter(attacker: Attacker) -> None:
    lines = attacker.forge("ask_from_child", "condor_starter").splitlines()
    assert all("a child of condor_starter and not of HTCondor's" in line for line in lines[:3])


def test_the_starter_s_child_outside_of_a_slice(attacker: Attacker, installed: Path) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    lines = hook.forge("ask_all").splitlines()
    assert [line.split()[1] for line in lines] == ["done", "refused", "refused", "error"]
    assert all("outside of the slice" in line for line in lines[1:3])


def test_a_slice_that_belongs_to_another_user(attacker: Attacker, slice_: Slice) -> None:
    os.chown(slice_.path, nobody().uid - 1, -1)
    assert "outside of the slice" in attacker.forge("ask_launch")


def test_a_job_asks_from_inside(attacker: Attacker) -> None:
    job = attacker.run(PYTHON, "-ISEc", FORGER, "ask_all")
    lines = job.check().decode().splitlines()
    assert [line.split()[1] for line in lines] == ["error", "refused", "refused", "error"]


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


# ---- what a process has less than a job


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
        own = next(line for line in _status(os.getpid()).splitlines() if "CapPrm" in line)
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


# ---- what is handed over


@pytest.fixture
def fuse(tmp_path_factory: pytest.TempPathFactory, execute: Path) -> Iterator[Path]:
    """A directory in FUSE, of a server that never answers."""
    place = execute / "fuse"
    place.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR)
    user = nobody()
    options = f"fd={server},rootmode=40000,user_id={user.uid},group_id={user.gid}"
    arguments = (b"fuse", os.fsencode(place), b"fuse", 0, options.encode())
    assert _libc.mount(*arguments) == 0, os.strerror(ctypes.get_errno())
    yield place
    os.close(server)
    assert _libc.umount2(os.fsencode(place), 2) == 0
    place.rmdir()


@pytest.mark.parametrize("place", ["working directory", "scratch directory"])
def test_a_fuse_mount_that_never_answers(attacker: Attacker, fuse: Path, place: str) -> None:
    process = attacker.attack("hand_over", place, str(fuse))
    time.sleep(0.3)
    assert os.waitpid(process.pid, os.WNOHANG) == (0, 0), process.error
    assert_serving()
    neighbour = Slice(f"ledge-test-{os.getpid()}-other.slice", attacker.user.uid)
    starter = Starter(attacker.wrapper, attacker.execute, attacker.user, neighbour)
    assert starter.run("/bin/echo", "served").check() == b"served\n"
    wait_until(lambda: groups(neighbour) == [], "groups are left")
    neighbour.remove()


@pytest.mark.parametrize("place", ["working directory", "scratch directory"])
@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_no_directory(attacker: Attacker, tmp_path: Path, place: str, kind: str) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    path = tmp_path / kind
    make: dict[str, Callable[[], object]] = {
        "file": path.touch,
        "link": lambda: path.symlink_to("/"),
        "fifo": lambda: os.mkfifo(path, 0o666),
    }
    make[kind]()
    assert attacker.forge("hand_over", place, str(path)).startswith("failed ")


def test_a_foreign_scratch_directory(attacker: Attacker) -> None:
    output = attacker.forge("hand_over", "scratch directory", "/etc")
    assert output.startswith(f"failed {errno.EACCES} make /etc/.ledge for the job's own /tmp")
    assert not Path("/etc/.ledge").exists()


def test_a_foreign_working_directory_opens_nothing(attacker: Attacker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    output = attacker.forge("hand_over", "working directory", str(secret))
    assert output.startswith(f"failed {errno.EACCES} ")


FORGED_COMMANDS = [
    "an empty command", "garbage", "one line", "no argv", "a negative argc", "too large an argc",
    "a number of a megabyte", "an endless file", "a pipe", "a directory", "a path",
    "the connection",
]  # fmt: skip
FORGED_MESSAGES = [
    "nothing", "one descriptor", "four descriptors", "250 descriptors", "no number",
    "a huge number", "a long message", "fewer numbers", "more numbers", "a negative number",
    "a number too high", "a number of 100 digits", "no digits", "one number for ever",
]  # fmt: skip


@pytest.mark.parametrize("what", [*FORGED_COMMANDS, *FORGED_MESSAGES])
def test_a_wrong_handover(attacker: Attacker, what: str) -> None:
    """One line says why, nothing runs, and the next launch is served."""
    output = attacker.forge("hand_over", what)
    assert "started" not in output
    assert "failed " in output or output.startswith("sending: ")
    assert attacker.run("/bin/echo", "ran").check() == b"ran\n"


@pytest.mark.parametrize("what", ["too long an argument", "ten megabytes of argv"])
def test_more_than_execve_takes(attacker: Attacker, what: str) -> None:
    assert f"exec {errno.E2BIG}" in attacker.forge("hand_over", what)


def test_masks_that_are_negative(attacker: Attacker) -> None:
    process = attacker.attack("hand_over", "negative masks")
    process.wait()
    assert b"ended 256 " in process.output  # /bin/false has run, all signals blocked


def test_descriptors_of_every_kind(attacker: Attacker) -> None:
    numbers = attacker.forge("descriptors_of_every_kind").split("born")[0].split()
    # 3 is that of ls, for the directory.
    assert numbers == ["0", "1", "2", "3", *[str(n) for n in range(10, 18)], "1023"]


# ---- links in the way


@pytest.mark.parametrize("link", [".ledge", ".ledge/tmp"])
def test_a_link_where_the_private_directories_are_kept(attacker: Attacker, link: str) -> None:
    """It leads where its user could go, and no further: not to a directory of root's."""

    def plant() -> None:
        if "/" in link:
            os.mkdir(".ledge")
        os.symlink("/etc", link)

    process = attacker.start("/bin/ls", "/tmp", before=plant)
    process.wait()
    assert process.output == b""
    assert b"cannot give the job its own /tmp" in process.wrapper_error
    assert not Path("/etc/tmp").exists()


def in_a_mount_namespace(action: Callable[[], object]) -> int:
    """The errno of what is done in a mount namespace of its own."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            mounts.Slave().execute()
            action()
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["tmpfs", "private", "bind"])
@pytest.mark.parametrize("where", ["link", "link/below"])
def test_no_mount_through_a_link(tmp_path: Path, kind: str, where: str) -> None:
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere")
    target, other = os.fsencode(tmp_path / where), os.fsencode(tmp_path / "elsewhere")
    operations: dict[str, mounts.Operation] = {
        "tmpfs": mounts.Tmpfs(target),
        "private": mounts.PrivateDirectory(target, other + b"/backing"),
        "bind": mounts.Bind(b"/usr", target, read_only=True),
    }
    assert in_a_mount_namespace(operations[kind].execute) == errno.ELOOP


# ---- a wrapper that dies


@pytest.mark.parametrize(
    "step",
    [
        "connected", "greeted", "half a line", "reserved", "asked", "answered", "met init",
        "half way", "given", "running", "running, and the job holds on",
    ],
)  # fmt: skip
def test_a_wrapper_that_dies(attacker: Attacker, slice_: Slice, step: str) -> None:
    """No process, group, mount or descriptor is left; ledged is asked, and nobody else helps."""
    process = attacker.attack("die", step)
    assert os.WTERMSIG(process.wait()) == signal.SIGKILL, process.error
    wait_until(slice_.is_empty, f"processes are left: {slice_.processes()}")
    wait_until(lambda: groups(slice_) == [], f"groups are left: {groups(slice_)}")
    assert attacker.run("/bin/echo", "ran").check() == b"ran\n"


# ---- at init


@pytest.mark.parametrize("moment", ["before", "after"])
def test_init_is_no_way_to_anything(attacker: Attacker, moment: str) -> None:
    """Before the handover, when it may mount, and after it; by a process of the same user's."""
    lines = attacker.forge("attack_init", moment).splitlines()
    tried = dict(line.split(": ") for line in lines if ": " in line)
    refused = {"Permission denied", "Operation not permitted"}
    assert {tried[name] for name in tried} <= refused, tried
    assert len(tried) == 11
    found = {line.split()[0]: line.split()[1] for line in lines if line.split()[0].endswith(":")}
    assert found["Uid:"] == str(attacker.user.uid)
    mounting = f"{1 << syscalls.CAP_SYS_ADMIN:016x}" if moment == "before" else f"{0:016x}"
    assert found["CapEff:"] == found["CapPrm:"] == mounting
    # Signals that would have made it dump core it has passed on to the job.
    deadly = {signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGTERM}
    (ended,) = [line for line in lines if line.startswith(("ended ", "told: ended "))]
    assert int(ended.partition("ended ")[2].split()[0]) & 0x7F in deadly
    assert not list(Path("/").glob("core*"))


def test_init_is_killed_before_it_has_anything(attacker: Attacker) -> None:
    assert attacker.forge("signal_init", str(int(signal.SIGKILL))) == "told: "


def test_init_is_stopped_before_it_has_anything(attacker: Attacker) -> None:
    process = attacker.attack("signal_init", str(int(signal.SIGSTOP)))
    process.wait_for("sent")
    assert_serving()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # It is stopped still: that is what HTCondor's starter kills the slice's processes for.
    assert attacker.slice is not None
    (attacker.slice.path / "cgroup.kill").write_text("1")


# ---- what root opens


@pytest.mark.requires("strace")
def test_root_opens_nothing_that_a_user_named(attacker: Attacker, ledged: Ledged) -> None:
    """All that the launcher and what it forks open before they are the user."""
    (launcher,) = ledged.children("ledge_launcher")
    trace = attacker.execute / "trace"
    calls = "trace=%file,setresuid,setns"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", calls, "-p", str(launcher)]
    with subprocess.Popen(command) as strace:
        wait_until(lambda: "TracerPid:\t0" not in _status(launcher), "strace does not begin")
        assert attacker.run("/bin/echo", "ran").check() == b"ran\n"
        strace.terminate()
        strace.wait()
    lines = [line.split(None, 1) for line in trace.read_text().splitlines()]
    trace.unlink()
    roots = {str(launcher)} | {pid for pid, call in lines if call.startswith("setresuid(")}
    dropped: set[str] = set()
    entered: set[str] = set()
    opened: set[str] = set()
    opened_after: set[str] = set()
    for pid, call in [(pid, call) for pid, call in lines if pid in roots]:
        if call.startswith("setresuid("):
            dropped.add(pid)
        elif call.startswith("setns("):
            entered.add(pid)
        elif pid not in dropped and '"' in call:
            (opened_after if pid in entered else opened).add(call.split('"')[1])
    of_the_wrapper = {"ns/pid", "ns/user", "status", "limits", "personality", "root", *WRITTEN}
    own = {"/dev/null", "/proc/self", "/proc/self/ns/pid", *[f"/proc/self/{n}" for n in WRITTEN]}
    own |= {"/proc/self/io", "/proc/thread-self/io"}
    labels = {"attr/current", "attr/apparmor/current"}
    assert opened <= of_the_wrapper | own | labels
    # In the wrapper's mount namespace it looks at the wrapper once more, and at nothing else.
    assert opened_after <= {"ns/user", "status", "."}
    assert dropped


WRITTEN = ["oom_score_adj", "coredump_filter", "timerslack_ns", "loginuid"]


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


# ---- what would keep ledged from others


def test_descriptors_that_take_hours_to_close(attacker: Attacker) -> None:
    """Whoever drops a message closes what is in it: TCP connections that linger, for instance."""
    process = attacker.attack("send_lingering", "3600")
    process.wait_for("sent")
    assert_serving()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_without_so_passrights_a_signal_ends_the_closing() -> None:
    """What ledged does before Linux 6.16, on a socket of our own."""
    listener = socket.create_server(("127.0.0.1", 0))
    lingering = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    lingering.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            lingering.send(bytes(65536))
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
    ours, theirs = socket.socketpair()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [lingering.fileno()]))
    theirs.sendmsg([b"x"], [rights])
    lingering.close()
    before = signal.getsignal(signal.SIGALRM)
    begin = time.monotonic()
    with Impatience(needed=True):
        assert ours.recvmsg(1, socket.CMSG_SPACE(12))[0] == b"x"
    assert time.monotonic() - begin < 1
    signal.signal(signal.SIGALRM, before)
    for each in (ours, theirs, peer, listener):
        each.close()


def test_a_user_cannot_push_others_out_of_the_log(attacker: Attacker, ledged: Ledged) -> None:
    begin = len(ledged.lines())
    for _ in range(30):
        attacker.forge("ask_from_child")
    lines = [line for line in ledged.lines()[begin:] if f"user {attacker.user.uid}" in line]
    assert len(lines) <= 2 * (MOST_COMPLAINTS + 1)  # a minute may have ended meanwhile


NEST = """
import os
lines = open("/proc/self/mountinfo").read().splitlines()
os.chdir([line.split()[4] for line in lines if " - cgroup2 " in line][-1])
for _ in range(%d):
    os.mkdir("g")
    os.chdir("g")
"""


@pytest.mark.parametrize("depth", [300, 1500])
def test_control_groups_in_one_another(attacker: Attacker, slice_: Slice, depth: int) -> None:
    """So many that removing them one by one would stop ledged, or overflow its stack."""
    attacker.run(PYTHON, "-ISEc", NEST % depth).check()
    assert_serving()
    if depth == 1500:
        assert len(list_groups(slice_)) > 0  # left to HTCondor, which removes the slice
        remove_nested(slice_)


def list_groups(slice_: Slice) -> list[str]:
    return [name for name in os.listdir(slice_.path) if name.startswith("ledge-")]


def remove_nested(slice_: Slice) -> None:
    """Down to the deepest and back up: the whole path is longer than any system call takes."""
    for name in list_groups(slice_):
        back = os.open(".", os.O_RDONLY)
        os.chdir(slice_.path / name)
        while os.path.isdir("g"):
            os.chdir("g")
        while os.getcwd() != str(slice_.path / name):
            os.chdir("..")
            os.rmdir("g")
        os.fchdir(back)
        os.close(back)
        (slice_.path / name / "job").rmdir()
        (slice_.path / name).rmdir()


def test_many_control_groups_beside_the_scope(attacker: Attacker) -> None:
    assert "too many control groups" in attacker.forge("ask_beside_many_groups", "1000")


# ---- what is believed of a job's ad


POLICY = """\
version: 1
rules:
  - name: mallory
    match: TARGET.Owner == "mallory"
    refuse: '"not here"'
"""


@pytest.fixture
def policy(ledged: Ledged) -> Iterator[None]:
    """A policy that refuses one owner's jobs."""

    def reload() -> None:
        begin = len(ledged.lines())
        ledged.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the policy is that of" in str(ledged.lines()[begin:]), "no policy")

    ledged.policy.write_text(POLICY)
    reload()
    yield
    ledged.policy.unlink()
    reload()


@pytest.mark.usefixtures("policy")
def test_the_wrapper_cannot_take_back_what_the_hook_said(
    attacker: Attacker, installed: Path
) -> None:
    hook = Attacker(installed / "job_wrapper", attacker.execute, attacker.user, None)
    assert hook.forge("reserve", "mallory").startswith("refused")
    # The wrapper runs what LD_PRELOAD of the job's environment names, and may lie.
    assert "not here" in attacker.forge("reserve", "alice")
    assert "not here" in attacker.forge("reserve", "alice")
    assert hook.forge("reserve", "alice").startswith("done")
    assert attacker.forge("reserve", "mallory").startswith("done")


def test_the_evaluator_has_nothing_to_lose(ledged: Ledged) -> None:
    (evaluator,) = ledged.children("ledged-policy")
    found = dict(line.split(":\t") for line in _status(evaluator).splitlines() if ":\t" in line)
    assert found["Uid"].split() == [str(nobody().uid)] * 4
    assert found["Groups"].strip() == ""
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {f"{0:016x}"}
    assert found["NoNewPrivs"] == "1"
    links = [os.readlink(path) for path in Path(f"/proc/{evaluator}/fd").iterdir()]
    assert {link for link in links if not link.startswith("socket:")} == {"/dev/null"}
    assert os.stat(f"/proc/{evaluator}/environ").st_uid == 0  # not dumpable


def test_the_evaluator_is_killed(attacker: Attacker, ledged: Ledged) -> None:
    (evaluator,) = ledged.children("ledged-policy")
    os.kill(evaluator, signal.SIGKILL)
    assert attacker.run("/bin/echo", "ran").check() == b"ran\n"
