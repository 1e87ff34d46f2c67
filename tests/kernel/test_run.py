"""condor_ledge run: any command as a job, its usage afterwards, its own exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import classad2
import pytest

from tests.installed import PYTHON
from tests.kernel.starter import User

ENTRY = "import sys; sys.path.insert(0, {home!r}); from ledge.cli import main; sys.exit(main())"
EXACT = ("cgroup", "cgroup1")
FIGURES = ("CpuUserSeconds", "CpuSystemSeconds", "MemoryPeakBytes", "ProcessesPeak", "OomKills")


class Tool:
    """The command, as it is installed, run by a user in a directory of its own."""

    def __init__(self, home: Path, user: User, directory: Path) -> None:
        self.line = [PYTHON, "-IE", "-c", ENTRY.format(home=str(home))]
        self.user = user
        self.directory = directory

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.line, "run", *arguments],
            cwd=self.directory,
            preexec_fn=self.user.become,
            capture_output=True,
            text=True,
            timeout=30,
        )


@pytest.fixture
def run(installed: Path, execute: Path, user: User) -> Tool:
    directory = execute / f"run-{user.name}"
    directory.mkdir(exist_ok=True)
    os.chown(directory, user.uid, user.gid)
    return Tool(installed, user, directory)


@pytest.mark.parametrize("status", [0, 1, 125, 255])
def test_the_exit_status_is_the_commands_own(run: Tool, status: int) -> None:
    assert run("--", "/bin/sh", "-c", f"exit {status}").returncode == status


def test_death_by_a_signal(run: Tool) -> None:
    assert run("--", "/bin/sh", "-c", "kill -USR1 $$").returncode == -signal.SIGUSR1


def test_the_terminals_interrupt_reaches_the_command(run: Tool) -> None:
    """As from a shell, and as from ssh, where the tool itself leads the terminal's session."""
    pid, terminal = pty.fork()
    if pid == 0:
        run.user.become()
        os.chdir(run.directory)
        os.execv(PYTHON, [*run.line, "run", "--", "/bin/sh", "-c", "echo ready; exec sleep 20"])
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    began = time.monotonic()
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.WTERMSIG(status) == signal.SIGINT
    assert time.monotonic() - began < 10


def test_the_usage_is_a_classad_on_standard_error_alone(run: Tool) -> None:
    result = run("--", "/bin/echo", "hello")
    assert result.stdout == "hello\n"
    ad = classad2.ClassAd("[" + ";".join(result.stderr.splitlines()) + "]")
    assert ad["Isolation"].endswith("pid,mount,ipc,cgroup,uts")
    assert ad["CpuUserSeconds"] + ad["CpuSystemSeconds"] >= 0


def test_root_has_every_figure_that_the_machine_knows(run: Tool) -> None:
    loop = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    result = run("--json", "--", "/bin/sh", "-c", loop)
    usage = json.loads(result.stderr)
    assert usage["CpuUserSeconds"] + usage["CpuSystemSeconds"] > 0.01
    if run.user.uid == 0:
        assert usage["Tracking"] in EXACT
        assert all(name in usage or name in usage["Unmeasured"] for name in FIGURES)
        assert usage["MemoryPeakBytes"] > 100_000
    else:
        assert usage["Tracking"] in ("processes", *EXACT)
        assert "Unmeasured" in usage or usage["Tracking"] in EXACT


def test_the_usage_in_a_file(run: Tool) -> None:
    result = run("--json", "--output", "usage.json", "--", "/bin/true")
    assert result.stderr == ""
    assert "CpuUserSeconds" in json.loads((run.directory / "usage.json").read_text())


def test_it_sees_itself_alone(run: Tool) -> None:
    users = run("--", "/bin/ps", "-e", "-o", "pid=,comm=").stdout.split()
    assert users[1::2] == ["ledge_init", "ps"]


def test_a_program_and_a_directory_below_tmp_stay_visible(run: Tool) -> None:
    run.directory = Path(run("--", "/bin/pwd").stdout.strip())
    with_program = Path(f"/tmp/ledge-run-{run.user.name}-{os.getpid()}")
    with_program.mkdir()
    try:
        program = with_program / "program"
        program.write_text("#!/bin/sh\npwd\nls /tmp\n")
        program.chmod(0o755)
        run.directory = with_program
        lines = run("--", str(program)).stdout.split()
        assert lines[0] == str(with_program)
        assert with_program.name in lines[1:]
        assert len(lines) <= 3  # it, and the scratch directory
    finally:
        program.unlink()
        with_program.rmdir()


@pytest.mark.parametrize(
    ("command", "status"),
    [("no-such-command", 127), ("/no/such/command", 127), ("/etc/passwd", 126)],
)
def test_a_command_that_cannot_be_executed(run: Tool, command: str, status: int) -> None:
    result = run("--", command)
    assert result.returncode == status
    assert result.stderr.startswith("condor_ledge run: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("no json", "not a JSON document"),
        ('{"version": 1, "colour": "red"}', "unknown key 'colour'"),
        (
            '{"version": 1, "mounts": [{"kind": "bind", "source": "/no/such", "target": "/mnt"}]}',
            "cannot mount /no/such at /mnt: No such file or directory",
        ),
    ],
)
def test_a_bad_plan_is_one_line_and_status_125(run: Tool, plan: str, words: str) -> None:
    path = run.directory / "plan.json"
    path.write_text(plan)
    result = run("--plan", str(path), "--", "/bin/echo", "ran")
    assert (result.returncode, result.stdout) == (125, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_network_of_nothing_but_a_loopback(run: Tool) -> None:
    (run.directory / "plan.json").write_text('{"version": 1, "network": "none"}')
    look = "import socket; socket.create_server(('127.0.0.1', 80 * 100)); "
    look += "print([name for _, name in socket.if_nameindex()])"
    result = run("--plan", str(run.directory / "plan.json"), "--", PYTHON, "-c", look)
    assert (result.returncode, result.stdout) == (0, "['lo']\n"), result.stderr
    assert 'Network = "none"' in result.stderr


def test_a_private_network_is_ledged_s_alone_to_make(run: Tool) -> None:
    (run.directory / "plan.json").write_text('{"version": 1, "network": "private"}')
    result = run("--plan", str(run.directory / "plan.json"), "--", "/bin/echo", "ran")
    assert (result.returncode, result.stdout) == (125, "")
    assert "only ledged can: LEDGE_DAEMON = True" in result.stderr


def test_a_dry_run_runs_nothing(run: Tool) -> None:
    result = run("--dry-run", "--", "/bin/touch", "touched")
    assert result.returncode == 0
    assert "mount a fresh /proc" in result.stdout
    assert not (run.directory / "touched").exists()


def test_nothing_is_left_below_tmp(run: Tool) -> None:
    before = set(Path("/tmp").glob("condor_ledge-*"))
    run("--", "/bin/sh", "-c", "mkdir -p /tmp/a/b /var/tmp/c; touch /tmp/a/b/d")
    run("--dry-run", "--", "/bin/true")
    run("--", "/no/such/command")
    assert set(Path("/tmp").glob("condor_ledge-*")) <= before
