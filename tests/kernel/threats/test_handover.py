"""What is handed over to the process that becomes init, and what root opens on the way."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter
from tests.kernel.threats.attacker import (
    Attacker,
    assert_serving,
    groups,
    nobody,
    proc_status,
    wait_until,
)

_libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


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
    assert f"failed {errno.EACCES} give the job its own /tmp" in output
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


# ---- what root opens


@pytest.mark.requires("strace")
def test_root_opens_nothing_that_a_user_named(attacker: Attacker, ledged: Ledged) -> None:
    """All that the launcher and what it forks open before they are the user."""
    (launcher,) = ledged.children("ledge_launcher")
    trace = attacker.execute / "trace"
    calls = "trace=%file,setresuid,setns"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", calls, "-p", str(launcher)]
    with subprocess.Popen(command) as strace:
        wait_until(lambda: "TracerPid:\t0" not in proc_status(launcher), "strace does not begin")
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
