"""A job that runs until it is told to end, for those who go into it: enter, and ssh_to_job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Process, Starter, User
from tests.kernel.threats.attacker import groups, wait_until


@contextmanager
def of_visited_jobs(installed: Path, execute: Path, user: User) -> Iterator[Starter]:
    """The starter of a user's jobs, which ledged launches; nothing is left of them."""
    slice_ = Slice(f"ledge-test-{os.getpid()}.slice", user.uid)
    starter = Starter(installed / "job_wrapper", execute, user, slice_)
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        yield starter
        starter.close()
        wait_until(lambda: groups(slice_) == [], "groups are left")
        assert Path("/proc/self/mountinfo").read_text() == mounts
    finally:
        slice_.remove()


def visited_job(starter: Starter, umask: int = 0o022, environ: Sequence[bytes] = ()) -> Process:
    """Start one, with a child of its own, and wait until it runs."""
    script = f"umask {umask:o}; sleep 600 & touch running; read line <gate; kill $!; exit 7"
    job = starter.start(
        "/bin/sh", "-c", script, environ=list(environ), before=lambda: os.mkfifo("gate")
    )
    job.wait_for("running")
    return job


def let_go(job: Process) -> int:
    """Let the job end; its exit code."""
    (job.directory / "gate").write_text("\n")
    return os.WEXITSTATUS(job.wait())


def start_anew(ledged: Ledged, installed: Path) -> None:
    ledged.kill()
    ledged.process = Ledged(installed, ledged.log.parent).process  # the fixture ends it
