"""What enters a running job, from root's rights to the command: nobody gets hold of it.

The attacker stops it between two steps: in the job as soon as it is there, and as another process
of the same user's on the node from the moment on that it is that user's.
"""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.kernel.command import entering
from tests.kernel.starter import PATIENCE_SECONDS, Process
from tests.kernel.threats.attacker import FORGER, PYTHON, Attacker, wait_until

ATTEMPTS = 20

pytestmark = pytest.mark.requires("root", "userns", "cgroup2")


def caught(text: str) -> dict[str, str]:
    """What was tried on it, and its rights."""
    lines = [line.split(":", 1) for line in text.splitlines()]
    return {name: value.strip() for name, value in lines}


def assert_refused(found: dict[str, str], uid: int) -> None:
    refused = {"Permission denied", "Operation not permitted"}
    rights = {"Uid", "CapEff", "CapPrm"}
    tried = {name: value for name, value in found.items() if name not in rights}
    assert len(tried) == 11
    assert set(tried.values()) <= refused, tried
    assert set(found["Uid"].split()) == {str(uid)}


def enter_once() -> None:
    command = entering("true")
    _, error = command.communicate(timeout=PATIENCE_SECONDS)
    assert (command.returncode, error) == (0, b"")


def caught_or_over(job: Process, command: subprocess.Popen[bytes]) -> bool:
    return bool(job.output) or command.poll() is not None


def files(pid: int) -> set[str]:
    """What a process has open."""
    return {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}


def test_by_the_job(attacker: Attacker) -> None:
    """It has no right any more when the job can see it, and nothing of root's open."""
    job = attacker.start(PYTHON, "-ISEc", FORGER, "attack_entering", "flag")
    job.wait_for("flag")
    for _ in range(ATTEMPTS):
        command = entering("true")
        wait_until(partial(caught_or_over, job, command), "nothing happens")
        if job.output:
            break
        command.communicate()
    assert attacker.slice
    ours = [pid for pid in attacker.slice.processes() if name_of(pid) == "ledge_enter"]
    (waiter,) = [pid for pid in ours if is_outside(pid)]
    (entered,) = [pid for pid in ours if not is_outside(pid)]
    wait_until(lambda: not of_files(files(waiter)), "the waiter keeps files open")
    assert of_files(files(entered)) <= {str(job.directory)}  # where it is to go
    (job.directory / "flag.go").touch()
    command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode in (0, -signal.SIGKILL)  # the job ends, and may be faster
    found = caught(job.check().decode())
    assert_refused(found, attacker.user.uid)
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == 0


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def is_outside(pid: int) -> bool:
    """Whether it is in the node's PID namespace, and not in the job's."""
    return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")


def of_files(names: set[str]) -> set[str]:
    """Without pipes, sockets and pidfds, of which nothing can be opened anew but what they are."""
    harmless = ("pipe:[", "socket:[", "anon_inode:[pidfd]", "pidfd:[", "/dev/null")
    return {name for name in names if not name.startswith(harmless)}


def test_by_a_login_of_the_user_s(attacker: Attacker, tmp_path: Path) -> None:
    """It has rights when the user's processes can signal it first, and none when it waits."""
    job = attacker.start("/bin/sleep", "600")
    seen: set[int] = set()
    # How soon it is caught early enough is a matter of luck, and of what else the machine does.
    for attempt in range(5 * ATTEMPTS):
        flag = f"/tmp/{tmp_path.name}-{attempt}"
        login = subprocess.Popen(
            [PYTHON, "-ISEc", FORGER, "attack_entering", flag],
            stdout=subprocess.PIPE, text=True, user=attacker.user.uid, group=attacker.user.gid,
            extra_groups=[],
        )  # fmt: skip
        Path(flag + ".go").touch()
        wait_until(Path(flag).exists, "the attacker does not start")
        Path(flag).unlink()
        for _ in range(ATTEMPTS):
            enter_once()
            if login.poll() is not None:
                break
        missed = login.poll() is None
        if missed:
            login.kill()
        output = login.communicate(timeout=PATIENCE_SECONDS)[0]
        Path(flag + ".go").unlink()
        if missed:
            continue
        found = caught(output)
        assert_refused(found, attacker.user.uid)
        seen.add(int(found["CapPrm"], 16))
        if any(seen):
            break
    assert any(seen)
    assert job.status is None
