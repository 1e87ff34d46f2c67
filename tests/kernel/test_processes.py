"""A job without a control group: what its processes used, and what becomes of those it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

from ledge.tracking.membership import Marks
from ledge.tracking.views import MarkedView, started
from tests.installed import PYTHON
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter, User
from tests.kernel.test_run import ENTRY
from tests.kernel.threats.attacker import Attacker
from tests.unit.test_chirp import Peer, Recorder

pytestmark = pytest.mark.requires("psutil")

MIB = 1 << 20
PATIENCE_SECONDS = 60.0
# Without a control group, and with and without a PID namespace.
PLANS = {
    "namespaces": {"cgroup": "none", "namespaces": ["pid", "mount", "ipc", "uts"]},
    "bare": {"cgroup": "none", "namespaces": [], "mounts": []},
}

JOB = """
import json, os, signal, sys, time
def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: sum(range(2000))
def daemon(work):
    def session():
        os.setsid()
        child(work)
    os.waitpid(child(session), 0)
def wait_for(name):
    while not os.path.exists(name): time.sleep(0.01)
"""
# A daemon that nothing in the process tree leads to, with all that is counted.
DAEMON = """
def work():
    memory = bytearray(64 << 20)
    burn(0.3)
    for number in range(3): os.waitpid(child(lambda: burn(0.2)), 0)
    with open("data", "wb") as file:
        file.write(bytes(8 << 20)); file.flush(); os.fsync(file.fileno())
    with open("pid", "w") as file: file.write(str(os.getpid()))
    open("ready", "w").close()
    time.sleep(60)
daemon(work)
wait_for("ready")
time.sleep(0.5)  # a few looks
sys.exit(3)
"""
NOT_WAITED_FOR = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def work():
    burn(1.0)
    open("ready", "w").close()
    time.sleep(1.5)
child(work)
wait_for("ready")
time.sleep(2.5)
"""


def as_user(user: User) -> dict[str, Any]:
    """For Popen."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


class Job:
    """Runs a piece of Python as a user's job; its figures, and how it ended."""

    def __init__(self, home: Path, directory: Path, user: User, python: str = PYTHON) -> None:
        self.line = [python, "-IE", "-c", ENTRY.format(home=str(home)), "run", "--json"]
        self.directory = directory
        self.user = user

    def start(self, program: str, plan: str = "bare") -> subprocess.Popen[bytes]:
        for path in self.directory.iterdir():
            path.unlink()
        (self.directory / "plan.json").write_text(json.dumps({"version": 1, **PLANS[plan]}))
        job = [PYTHON, "-IES", "-c", JOB + program]
        files = ["--output", "usage.json", "--plan", "plan.json"]
        command = [*self.line, *files, "--", "/usr/bin/env", "-i", *job]
        return subprocess.Popen(command, cwd=self.directory, **as_user(self.user))

    def run(self, program: str, plan: str = "bare", status: int = 0) -> dict[str, Any]:
        assert self.start(program, plan).wait(PATIENCE_SECONDS) == status
        figures: dict[str, Any] = json.loads((self.directory / "usage.json").read_text())
        print(figures)
        assert figures["Tracking"] == "processes"
        return figures


@pytest.fixture
def directory(execute: Path, user: User) -> Path:
    path = execute / f"processes-{user.name}"
    path.mkdir(exist_ok=True)
    os.chown(path, user.uid, user.gid)
    return path


@pytest.fixture
def job(installed: Path, directory: Path, user: User) -> Job:
    return Job(installed, directory, user)


@pytest.mark.parametrize("plan", PLANS)
def test_a_daemon_is_counted_and_does_not_live_on(job: Job, plan: str) -> None:
    figures = job.run(DAEMON, plan, status=3)
    cpu = figures["CpuUserSeconds"] + figures["CpuSystemSeconds"]
    assert 0.9 <= cpu < 0.9 + 0.4
    assert 64 * MIB <= figures["MemoryProcessPeakBytes"] < 64 * MIB + 24 * MIB
    assert 64 * MIB <= figures["MemoryPssPeakBytes"] <= figures["MemoryRssPeakBytes"]
    assert figures["MemoryRssPeakBytes"] < 64 * MIB * 2 + 64 * MIB  # it and a copy, twice counted
    assert 2 <= figures["ProcessesPeak"] <= 6
    assert 8 * MIB <= figures["StorageWriteBytes"] < 9 * MIB
    assert figures["LogicalWriteBytes"] >= 8 * MIB
    assert "Incomplete" not in figures
    assert "reading" in figures["Sampled"] and "Cpu" not in figures["Sampled"]
    if plan == "bare":  # else it is the PID in the namespace
        assert not psutil.pid_exists(int((job.directory / "pid").read_text()))


@pytest.mark.parametrize("plan", PLANS)
def test_whom_nobody_waits_for_is_seen_while_it_lives(job: Job, plan: str) -> None:
    """To the kernel's sums it has never been there: what was seen last is a lower bound."""
    figures = job.run(NOT_WAITED_FOR, plan)
    assert 0.9 < figures["CpuUserSeconds"] + figures["CpuSystemSeconds"] < 1.4
    assert "nobody waited for some processes" in figures["Incomplete"]
    assert "CpuUserSeconds" in figures["Sampled"]


@pytest.fixture
def by_sliceless_ledged(
    request: pytest.FixtureRequest, installed: Path, execute: Path, tmp_path: Path
) -> Iterator[Starter]:
    """A starter on a node where HTCondor makes no control groups, and ledged knows that."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\n{request.param}\n")
    ledged = Ledged(installed, tmp_path, policy, ["--base-cgroup="])
    user = User.named("nobody")
    starter = Starter(installed / "job_wrapper", execute, user, None)
    yield starter
    starter.close()
    ledged.close()


@pytest.mark.requires("root", "cgroup2")
@pytest.mark.parametrize("by_sliceless_ledged", ["defaults: {pids_max: 100}"], indirect=True)
def test_a_limit_that_nothing_can_hold_refuses_the_job(by_sliceless_ledged: Starter) -> None:
    process = by_sliceless_ledged.run("/bin/true")
    assert b"pids_max: HTCondor makes no control group for jobs here" in process.wrapper_error


@pytest.mark.requires("root", "cgroup2")
@pytest.mark.parametrize("by_sliceless_ledged", ["defaults: {}"], indirect=True)
def test_launched_by_ledged_where_htcondor_makes_no_control_groups(
    by_sliceless_ledged: Starter,
) -> None:
    """In transparent namespaces: no user namespace, and its own processes alone."""
    starter = by_sliceless_ledged
    look = "print(os.stat('/etc').st_uid, len([n for n in os.listdir('/proc') if n.isdigit()]))"
    program = DAEMON.replace("sys.exit(3)", look)
    with reported(starter) as (environ, told):
        process = starter.run(PYTHON, "-IES", "-c", JOB + program, environ=environ)
        assert process.check().split() == [b"0", b"3"]  # init, the job, its daemon
    figures = told()
    print(figures)
    assert figures["Tracking"] == '"processes"'
    assert figures["Isolation"] == '"pid,mount,ipc,uts"'
    assert 0.9 <= float(figures["CpuUserSeconds"]) + float(figures["CpuSystemSeconds"]) < 1.3
    assert int(figures["MemoryRssPeakBytes"]) >= 64 * MIB
    assert 8 * MIB <= int(figures["StorageWriteBytes"]) < 9 * MIB
    assert figures["Incomplete"] == "undefined"


MALLORY = "rules: [{name: mallory, match: TARGET.Owner == \"mallory\", refuse: '\"not here\"'}]"


@pytest.mark.requires("root", "cgroup2")
@pytest.mark.parametrize("by_sliceless_ledged", [MALLORY], indirect=True)
def test_what_the_hook_said_stays_without_slices(
    by_sliceless_ledged: Starter, installed: Path
) -> None:
    """Hook and wrapper are both the starter's children, in its control group: the first counts."""
    starter = by_sliceless_ledged
    attacker = Attacker(installed / "job_wrapper", starter.execute, starter.user, None)
    assert "not here" in attacker.forge("reserve", "mallory")
    assert "not here" in attacker.forge("reserve", "alice")
    attacker.close()


@contextmanager
def reported(starter: Starter) -> Iterator[tuple[list[bytes], Callable[[], dict[str, str]]]]:
    """The environment by which a job's figures are reported to here, and what was reported."""
    recorder = Recorder()
    peer = Peer(recorder)
    config = starter.execute / "chirp.config"
    config.write_text(f"127.0.0.1 {peer.port} c0ffee\n")

    def told() -> dict[str, str]:
        words = [request.decode().strip().split(" ", 2) for request in recorder.requests]
        told = [rest for verb, *rest in words if verb == "set_job_attr_delayed"]
        prefix = len("ChirpLedge")
        return {name[prefix:]: value.replace("\\ ", " ") for name, value in told}

    try:
        yield [b"_CONDOR_CHIRP_CONFIG=" + os.fsencode(config)], told
    finally:
        peer.close()


def test_a_short_job_has_what_the_kernel_adds_up(job: Job) -> None:
    figures = job.run("burn(0.01)")
    assert 0.01 < figures["CpuUserSeconds"] + figures["CpuSystemSeconds"] < 0.3
    if "MemoryRssPeakBytes" not in figures:
        assert "ended before it was looked at" in figures["Unmeasured"]


def test_without_psutil_it_says_so(installed: Path, directory: Path, user: User) -> None:
    venv = directory.with_name(f"venv-{user.name}")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
    figures = Job(installed, directory, user, str(venv / "bin/python3")).run("time.sleep(1)")
    assert "python3-psutil cannot be had" in figures["Unmeasured"]
    assert "MemoryRssPeakBytes" not in figures and "ProcessesPeak" not in figures
    assert figures["CpuUserSeconds"] >= 0


@pytest.mark.parametrize("plan", PLANS)
def test_the_tracker_ends_with_who_started_it(job: Job, plan: str) -> None:
    process = job.start('open("ready", "w").close()\ntime.sleep(60)', plan)
    while not (job.directory / "usage.json").exists() or not trackers(process.pid):
        assert process.poll() is None
        time.sleep(0.01)
    (tracker,) = trackers(process.pid)
    process.kill()
    process.wait(PATIENCE_SECONDS)
    tracker.wait(PATIENCE_SECONDS)


def trackers(parent: int) -> list[psutil.Process]:
    children = psutil.Process(parent).children()
    return [child for child in children if child.name() == "ledge_tracker"]


def test_a_signal_reaches_the_job_at_once(job: Job) -> None:
    process = job.start('open("ready", "w").close()\ntime.sleep(60)')
    while not (job.directory / "ready").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(2.0) == -signal.SIGTERM


@contextmanager
def process_of(
    user: User, environ: dict[str, str], directory: Path
) -> Iterator[int]:
    """A process whose parent is init, or whoever collects orphans, as a daemon's is."""
    code = "import os, time\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\n"
    code += "time.sleep(60)"
    process = subprocess.Popen(
        [PYTHON, "-IES", "-c", code], env=environ, cwd=directory, stdout=subprocess.PIPE,
        start_new_session=True, **as_user(user),
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.wait()
    process.stdout.close()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def test_who_has_left_the_tree_is_known_by_marks(user: User, directory: Path) -> None:
    """By HTCondor's environment, and by where it works; other jobs' and earlier ones are not."""
    scratch, other = directory / "scratch", directory / "other"
    for path in (scratch, other):
        path.mkdir(exist_ok=True)
    ancestor = {"_CONDOR_ANCESTOR_77": "77:1:2"}
    job = {"_CONDOR_SCRATCH_DIR": str(scratch)}
    sleeper = [PYTHON, "-IES", "-c", "import time; time.sleep(60)"]
    with process_of(user, job, scratch) as earlier:
        time.sleep(0.02)  # the kernel tells when a process was started in ticks
        init = subprocess.Popen(sleeper, start_new_session=True, **as_user(user))
        root = psutil.Process(init.pid)
        marks = Marks(user.uid, started(root), str(scratch), ancestor, 77)
        another = [{"_CONDOR_SCRATCH_DIR": str(other)}, {"_CONDOR_ANCESTOR_78": "78:1:2"}]
        with ExitStack() as stack:
            def start(environ: dict[str, str], where: Path) -> int:
                return stack.enter_context(process_of(user, environ, where))

            ours = {start(ancestor, other), start(job, other), start({}, scratch)}
            others = {start(environ, scratch) for environ in another} | {start({}, other), earlier}
            view = MarkedView(root, marks, starter=77)
            found = [{process.pid for process in view.processes()} for _ in range(2)]
            assert found[0] == found[1] == ours
            assert not ours & others
        init.kill()
        init.wait()
