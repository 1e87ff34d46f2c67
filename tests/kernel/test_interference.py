"""Two jobs of one user, natively: every way of tests/interference, without and with ledged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interference.table import OPEN, Result, results, table
from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter, User

pytestmark = pytest.mark.requires("root", "cgroup2", "bpf", "x86_64")

PROGRAMS = Path(__file__).parents[1] / "interference"
PYTHON = "/usr/bin/python3"
PATIENCE_SECONDS = 120
# As people use it: all namespaces but the network's, and a writable directory for the work.
BWRAP = (
    "/bin/sh",
    "-c",
    "exec bwrap --unshare-all --share-net --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp"
    ' --bind "$PWD" "$PWD" "$@"',
    "bwrap",
)
CLOSED_BY_THE_KERNEL = {
    "moved to the attacker's control group",
    "attacker goes to the victim's control group",
    "freezing the victim's control group",
    "killing the victim's control group",
    "session keyring",
}


class Job:
    """A job with a slice and a starter of its own, which stands in the job's directory."""

    def __init__(self, installed: Path, execute: Path, number: int) -> None:
        user = User.named("nobody")
        self.slice = Slice(f"ledge-test-{os.getpid()}-{number}.slice", user.uid)
        self.starter = Starter(installed / "job_wrapper", execute, user, self.slice)
        self.pid = 0

    def start(self, argv: list[str], wrapped: bool = True) -> str:
        """Start a command; its directory."""
        hear, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._be_starter(argv, wrapped, tell)
            finally:
                os._exit(1)
        os.close(tell)
        with open(hear) as file:
            return file.read()

    def _be_starter(self, argv: list[str], wrapped: bool, tell: int) -> None:
        go, ready = os.pipe()
        process = self.starter.start(*argv, before=lambda: os.read(go, 1), wrapped=wrapped)
        os.chdir(process.directory)
        os.write(tell, os.fsencode(process.directory))
        os.close(tell)
        # Only when the starter stands there may the wrapper ask.
        os.write(ready, b"\n")
        os._exit(os.waitstatus_to_exitcode(process.wait(PATIENCE_SECONDS)))

    def check(self) -> None:
        """The program is to have ended well."""
        assert os.waitpid(self.pid, 0)[1] == 0
        self.pid = 0

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.slice.remove()


class Misled(Starter):
    """Its wrapper believes that the scratch directory is another one."""

    other: Path

    def environment(self, directory: Path) -> list[bytes]:
        return [b"_CONDOR_SCRATCH_DIR=" + os.fsencode(self.other), *super().environment(directory)]


class Pair:
    """A victim and an attacker."""

    def __init__(self, installed: Path, execute: Path) -> None:
        # Where jobs see them, which is not so everywhere that a checkout may be.
        self.programs = tempfile.mkdtemp(prefix="ledge-interference-", dir="/var/lib")
        os.chmod(self.programs, 0o755)
        for program in PROGRAMS.glob("*.py"):
            shutil.copy(program, self.programs)
        self.victim, self.attacker = (Job(installed, execute, number) for number in range(2))

    def start(self, wrapped: bool, within: Sequence[str]) -> list[str]:
        """Their directories."""
        victim = self.victim.start([*within, PYTHON, f"{self.programs}/victim.py"], wrapped)
        attacker = self.attacker.start([*within, PYTHON, f"{self.programs}/attacker.py"], wrapped)
        return [victim, attacker]

    def check(self) -> None:
        self.attacker.check()
        self.victim.check()

    def close(self) -> None:
        for job in (self.victim, self.attacker):
            job.close()
        shutil.rmtree(self.programs)


@pytest.fixture
def counting_ledged(installed: Path, tmp_path: Path) -> Iterator[Ledged]:
    """With a place for eBPF maps, which not every machine has where ledged looks for it."""
    place = "/sys/fs/bpf"
    mounted = f" {place} bpf " in Path("/proc/self/mounts").read_text()
    if not mounted:
        subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
    ledged = Ledged(installed, tmp_path)
    yield ledged
    ledged.close()
    if not mounted:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def pair(installed: Path, execute: Path, counting_ledged: Ledged) -> Iterator[Pair]:
    pair = Pair(installed, execute)
    yield pair
    pair.close()


def tried(pair: Pair, wrapped: bool = False, within: Sequence[str] = ()) -> dict[str, Result]:
    pairs = [pair.start(wrapped, within)]
    found = referee(pairs=pairs, node=[])
    pair.check()
    return found


def referee(**wanted: Any) -> dict[str, Result]:
    """What came of the only pair, or of the only attacker on the node."""
    command = [sys.executable, str(PROGRAMS / "referee.py"), json.dumps(wanted)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    return results(json.loads(done.stdout)[0])


def reached(results: dict[str, Result]) -> set[str]:
    return {way for way, result in results.items() if result.reached}


def test_a_job_cannot_reach_another_one_of_its_user(pair: Pair) -> None:
    path = os.environ.get("CONDOR_LEDGE_TABLE")
    # Whatever has run by ledged leaves its eBPF programs at the slice.
    columns = {"bwrap": tried(pair, within=BWRAP)} if path else {}
    without = columns["without"] = tried(pair)
    by_ledged = columns["by ledged"] = tried(pair, wrapped=True)
    print(table(columns))
    if path:
        Path(path).write_text(table(columns) + "\n")
    assert reached(by_ledged) == {way for way in OPEN if way in by_ledged}
    # An attack that never works would tell nothing. A PID may go to another process of the machine.
    assert set(without) - reached(without) - {"PID used again"} == CLOSED_BY_THE_KERNEL


def test_a_job_against_the_node(pair: Pair) -> None:
    command = [PYTHON, f"{pair.programs}/attacker.py", "--node"]
    found = referee(pairs=[], node=[pair.attacker.start(command)])
    pair.attacker.check()
    print(table({"by ledged": found}))
    assert reached(found) == {"list of the node's mounts"}


def test_who_hands_over_another_scratch_directory(pair: Pair, execute: Path) -> None:
    """What runs in the wrapper (LD_PRELOAD) may say what it likes: the starter stands elsewhere."""
    other = Path(tempfile.mkdtemp(prefix="ledge-test-", dir="/var/lib"), "dir_1")
    other.mkdir()
    (execute / "dir_of_another_job").mkdir()
    honest = pair.attacker.starter
    for path in (other, other.parent):
        os.chown(path, honest.user.uid, honest.user.gid)
    pair.attacker.starter = Misled(honest.wrapper, execute, honest.user, honest.slice)
    pair.attacker.starter.other = other
    try:
        directory = pair.attacker.start(["/bin/ls", str(execute)])
        pair.attacker.check()
        output = Path(directory, "_condor_stdout").read_text()
        assert output.split() == [Path(directory).parent.name]
    finally:
        (execute / "dir_of_another_job").rmdir()
        shutil.rmtree(other.parent)
