"""What a job's processes read and wrote, as its init counts it: which count, and how exactly.

Sizes are large beside what starting a program reads: some kilobytes for the headers of the program
and of its libraries, and the program's own files.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.installed import PYTHON
from tests.kernel.starter import Starter, User
from tests.unit.test_chirp import Peer, Recorder

MIB = 1 << 20
ENTRY = "import sys; sys.path.insert(0, {home!r}); from ledge.cli import main; sys.exit(main())"
# Python itself reads its modules.
START_UP = MIB

COPY = f"""
import os, signal, sys, time
def copy():
    left = {8 * MIB}
    source, sink = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
    while left:
        left -= os.write(sink, os.read(source, min(left, 1 << 16)))
def child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid
"""
WAITED_FOR = "os.waitpid(child(copy), 0)"
IN_A_THREAD = "import threading; t = threading.Thread(target=copy); t.start(); t.join()"
KILLED = """
hear, tell = os.pipe()
pid = child(lambda: (copy(), os.write(tell, b"done"), time.sleep(60)))
os.read(hear, 4); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
"""
# It leaves the tree by two forks, and works on when the job has ended: init kills it.
LEFT_BEHIND = """
hear, tell = os.pipe()
def daemon():
    os.setsid()
    child(lambda: (copy(), os.write(tell, b"done"), time.sleep(60)))
os.waitpid(child(daemon), 0); os.read(hear, 4)
"""
NOT_WAITED_FOR = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try: os.waitpid(child(copy), 0)
except ChildProcessError: pass
"""
EXECUTED = """
import subprocess
subprocess.check_call(["dd", "if=/dev/zero", "of=/dev/null", "bs=64k", "count=128", "status=none"])
"""


@pytest.fixture
def usage(installed: Path, execute: Path, user: User) -> Usage:
    directory = execute / f"io-{user.name}"
    directory.mkdir(exist_ok=True)
    os.chown(directory, user.uid, user.gid)
    return Usage(installed, directory, user)


class Usage:
    """Runs a piece of Python as a job and says what it used."""

    def __init__(self, home: Path, directory: Path, user: User) -> None:
        self.line = [PYTHON, "-IE", "-c", ENTRY.format(home=str(home)), "run", "--json"]
        self.directory = directory
        self.user = user

    def of(self, program: str, *options: str) -> dict[str, int | str]:
        output = self.directory / "usage.json"
        output.unlink(missing_ok=True)
        job = [PYTHON, "-IES", "-c", COPY + program]
        command = [*self.line, "--output", str(output), *options, "--", *job]
        subprocess.run(
            command, cwd=self.directory, preexec_fn=self.user.become, check=True, timeout=60
        )
        found: dict[str, int | str] = json.loads(output.read_text())
        return found


@pytest.mark.parametrize(
    "program", [WAITED_FOR, IN_A_THREAD, KILLED, LEFT_BEHIND, EXECUTED, "copy()"]
)
def test_it_counts(usage: Usage, program: str) -> None:
    found = usage.of(program)
    print(found["LogicalReadBytes"], found["LogicalWriteBytes"])
    assert "Logical" not in str(found.get("Incomplete"))
    assert 8 * MIB <= int(found["LogicalReadBytes"]) < 8 * MIB + START_UP
    assert 8 * MIB <= int(found["LogicalWriteBytes"]) < 8 * MIB + 4096


def test_what_nobody_waits_for_does_not_count(usage: Usage) -> None:
    """The kernel forgets it: the figure is too low, which docs/attributes.md says."""
    found = usage.of(NOT_WAITED_FOR)
    assert int(found["LogicalWriteBytes"]) < 4096


def test_ones_own_init_does_not_count(usage: Usage) -> None:
    """Nothing but the job's last steps to execve(2), a word to each control group of version 1."""
    found = usage.of("")
    assert int(found["LogicalWriteBytes"]) < 64


@pytest.mark.parametrize("program", [WAITED_FOR, LEFT_BEHIND])
def test_it_counts_without_a_pid_namespace(usage: Usage, program: str) -> None:
    """What is left has become a child of init's, who kills it and waits for it."""
    plan = usage.directory / "plan.json"
    plan.write_text(json.dumps({"version": 1, "namespaces": ["mount"]}))
    found = usage.of(program, "--plan", str(plan))
    assert "Logical" not in str(found.get("Incomplete"))
    assert 8 * MIB <= int(found["LogicalReadBytes"]) < 8 * MIB + START_UP


def test_it_is_reported_whoever_launches(starter: Starter) -> None:
    """To the starter, in one report with what else is known; that the job has ended comes first."""
    recorder = Recorder()
    peer = Peer(recorder)
    chirp_config = starter.execute / "chirp.config"
    chirp_config.write_text(f"127.0.0.1 {peer.port} c0ffee\n")
    environ = [b"_CONDOR_CHIRP_CONFIG=" + os.fsencode(chirp_config)]
    try:
        process = starter.run(PYTHON, "-IES", "-c", COPY + LEFT_BEHIND, environ=environ)
        assert (process.wait(), process.wrapper_error, process.error) == (0, b"", b"")
    finally:
        peer.close()
    requests = [request.split() for request in recorder.requests]
    told = {words[1]: words[2] for words in requests if words[0] == b"set_job_attr_delayed"}
    print(told)
    assert b"Logical" not in told[b"ChirpLedgeIncomplete"]
    assert 8 * MIB <= int(told[b"ChirpLedgeLogicalReadBytes"]) < 8 * MIB + START_UP
    assert 8 * MIB <= int(told[b"ChirpLedgeLogicalWriteBytes"]) < 8 * MIB + 4096
