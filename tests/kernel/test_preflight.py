"""What a node can do, tried for real; and ledged's word on it for the machine ad."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ledge.daemon.advertisement import _try_again_and_again
from ledge.kernel import syscalls
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.mounts import Tmpfs
from ledge.machine_ad import by_ledged
from ledge.plan.plan import NAMESPACES, Mount, Plan
from ledge.preflight.attempt import attempt
from ledge.preflight.namespaces import NOBODY, attempt_plan, isolation
from ledge.preflight.network import attempt_counting
from tests.kernel import cgroups
from tests.kernel.ledged import SOCKET, Ledged

pytestmark = pytest.mark.requires("root")
PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    scratch = scratch_directories()
    mounts = Path("/proc/self/mountinfo").read_text()
    descriptors = sorted(os.listdir("/proc/self/fd"))
    children = set(psutil.Process().children())  # other tests may have left some to be waited for
    yield
    assert scratch_directories() <= scratch
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert set(psutil.Process().children()) <= children


def scratch_directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("condor_ledge-*"))


def test_root_can_make_all_namespaces() -> None:
    assert isolation(0) == (NAMESPACES, None)


@pytest.mark.requires("userns")
def test_a_user_can_make_them_in_one_of_its_own() -> None:
    assert isolation(NOBODY) == (NAMESPACES, None)


def cover_proc(keep: int) -> None:
    """Make something unreachable in /proc, as a container does: the kernel then refuses another."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(b"none", b"/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    Tmpfs(b"/proc/sys/kernel", True).execute()
    can, failure = isolation(NOBODY)
    assert failure is not None
    os.write(keep, f"{','.join(can)}: {failure}".encode())


@pytest.mark.requires("userns")
def test_where_users_may_make_namespaces_and_no_mounts_in_them() -> None:
    """What AppArmor does is seen only by doing what comes after unshare(2), too."""
    hear, tell = os.pipe()
    attempt(lambda _: cover_proc(tell))
    told = os.read(hear, 4096).decode()
    os.close(hear)
    os.close(tell)
    assert told.startswith("mount,ipc,cgroup,uts: cannot mount a fresh /proc: ")
    assert "parts of /proc are covered" in told


def test_what_cannot_be_mounted_is_named() -> None:
    plan = Plan()
    plan.mounts = (Mount("bind", "/no/such/directory", "/etc"),)
    failure = attempt_plan(plan, 0)
    assert failure is not None
    assert "/no/such/directory" in failure.problem
    assert "take the mount out of the plan" in failure.remedy


def test_a_preflight_that_is_killed_at_any_moment_leaves_nothing() -> None:
    """HTCondor's startd kills its cron jobs when it ends."""
    code = "from ledge.preflight.namespaces import *\nwhile True: isolation(NOBODY)"
    for moment in range(1, 11):
        process = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(0.1 + 0.02 * moment)
        process.kill()
        process.wait()


def test_an_attempt_that_hangs_or_dies() -> None:
    begin = time.monotonic()
    hung = attempt(lambda _: time.sleep(60), seconds=0.2)
    assert "no end of it" in str(hung)
    assert time.monotonic() - begin < 10
    assert "died" in str(attempt(lambda _: os._exit(3)))


CROWDED = 64321  # a user with no process but those of the test
MOST_PROCESSES = 20


def try_as_the_crowded(ours: socket.socket, theirs: socket.socket) -> None:
    """Be what tries the node's abilities, where there is room for so many processes."""
    try:
        ours.close()
        os.setgroups([])
        os.setresgid(CROWDED, CROWDED, CROWDED)
        os.setresuid(CROWDED, CROWDED, CROWDED)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
        _try_again_and_again(theirs, "htcondor", "/")
    finally:
        os._exit(1)


@pytest.mark.requires("userns")
def test_a_node_with_no_room_for_a_process_is_tried_again() -> None:
    """A job of forks may be the reason, and ledged goes on when that has ended."""
    crowd = [
        subprocess.Popen(["sleep", "60"], user=CROWDED, group=CROWDED, extra_groups=[])
        for _ in range(MOST_PROCESSES)
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try_as_the_crowded(ours, theirs)
    theirs.close()
    ours.settimeout(PATIENCE_SECONDS)
    for _ in range(3):
        ours.send(b"again")
    time.sleep(0.5)
    descriptors = os.listdir(f"/proc/{pid}/fd")
    for process in crowd:
        process.kill()
        process.wait()
    ours.send(b"again")
    isolation_, *_ = json.loads(ours.recv(1 << 17))
    ours.close()
    os.waitpid(pid, 0)
    assert tuple(isolation_) == NAMESPACES
    assert len(descriptors) == 4


@pytest.mark.requires("cgroup2", "bpf")
def test_counting_traffic(tmp_path: Path) -> None:
    root = cgroups.mount_point()
    assert root is not None
    path = root / f"ledge-test-{os.getpid()}"
    path.mkdir()
    try:
        with closing(Cgroup.open(os.fsencode(path))) as group:
            subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
            try:
                assert attempt_counting(group, f"{tmp_path}/pins") is None
                assert list(tmp_path.glob("pins*")) == []
                others = left_by_others(tmp_path / "pins")
                assert attempt_counting(group, f"{tmp_path}/pins") is None
                assert list(tmp_path.glob("pins*")) == [others]
            finally:
                subprocess.run(["umount", tmp_path], check=True)
            failure = attempt_counting(group, f"{tmp_path}/pins")
    finally:
        path.rmdir()
    assert failure is not None
    assert failure.remedy == f"mount -t bpf bpf {tmp_path}"


def left_by_others(pins: Path) -> Path:
    """What two processes left that are gone; that of the one which was not root's is returned."""
    namespace = os.stat("/proc/self/ns/pid").st_ino
    root_s, user_s = (Path(f"{pins}-preflight-{namespace}-{1 << bits}") for bits in (30, 31))
    root_s.mkdir()
    user_s.mkdir()
    os.chown(user_s, NOBODY, -1)
    return user_s


def advertised(installed: Path) -> str:
    """What is advertised, as soon as ledged has tried what it can do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (SOCKET.parent / "machine_ad").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = subprocess.run([installed / "machine_ad", "1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.requires("userns", "cgroup2")
def test_ledged_advertises_and_whoever_asks_sees_whether_it_lives(
    installed: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    ledged = Ledged(installed, tmp_path, policy)
    try:
        told = advertised(installed)
        assert told.startswith("HasLedge = true\n")
        assert 'LedgeIsolation = "pid,mount,ipc,cgroup,uts"' in told
        # Not inside of HTCondor's unit: this is no execute node.
        assert 'LedgeAccounting = ""' in told
        assert 'LedgeMissing = "control groups: ' in told
        assert told.endswith("\n- update:true\n")
        ledged.process.kill()
        ledged.process.wait(PATIENCE_SECONDS)
        told, is_news = by_ledged(str(SOCKET), 0.0)
        assert told.startswith('HasLedge = false\nLedgeMissing = "ledged does not answer')
        assert is_news
    finally:
        ledged.process.kill()
        for path in SOCKET.parent.iterdir():
            path.unlink()
        SOCKET.parent.rmdir()


def test_a_node_whose_policy_refuses_every_job_has_no_ledge(
    installed: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\npids: 5\n")
    ledged = Ledged(installed, tmp_path, policy)
    try:
        told = advertised(installed)
        assert told.startswith("HasLedge = false\n")
        assert f"{policy}:2" in told
    finally:
        ledged.close()
