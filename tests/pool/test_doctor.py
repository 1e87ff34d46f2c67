"""condor_ledge doctor and the machine ad: faults that are made one by one, and a healthy node."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import pytest

from tests.pool.condor import CONFIG_DIRECTORY, Pool
from tests.pool.job import Job, Submission
from tests.pool.test_ledged import POLICY, await_ledged
from tests.pool.test_pool import shell

CONFIG_FILE = f"{CONFIG_DIRECTORY}/99-doctor.conf"
HOME = "/usr/libexec/condor/condor-ledge"
SOCKET = "/run/condor-ledge/socket"
UNIT = "/sys/fs/cgroup/system.slice/condor.service"
PATIENCE_SECONDS = 90.0
SLOW = "/usr/local/bin/slow_machine_ad"
RUNS = "pgrep -f '[s]low_machine_ad' >/dev/null"
REQUIREMENTS = 'requirements = HasLedge && stringListMember("{}", LedgeAccounting)\n'
# The doctor in a mount namespace of its own, where the node is another.
CGROUP_V1 = (
    "umount -R /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && "
    "mkdir /sys/fs/cgroup/named && mount -t cgroup -o none,name=named none /sys/fs/cgroup/named"
)
# As the kernel starts with psi=0: without /proc/pressure.
NO_PSI = "mount -t tmpfs none /proc/pressure"


class Fault(NamedTuple):
    """How a fault is made and taken back, and what the doctor has to say.

    `elsewhere` is done in the doctor's own mount namespace, and needs no taking back; `too` is a
    subject in which that shows as well.
    """

    subject: str
    problem: str
    remedy: str
    make: str = "true"
    undo: str = "true"
    elsewhere: str = ""
    too: str = ""


def configured(line: str) -> dict[str, str]:
    return {"make": f"echo '{line}' >{CONFIG_FILE}", "undo": f"rm -f {CONFIG_FILE}"}


def delegated(value: int) -> str:
    code = f'import os; os.setxattr("{UNIT}", "{{}}.delegate", b"{value}")'
    return "; ".join(f"python3 -c '{code.format(space)}'" for space in ("trusted", "user"))


FAULTS = {
    "user namespaces off by sysctl": Fault(
        "user namespaces",
        "cannot create the namespaces",
        "sysctl user.max_user_namespaces=",
        "sysctl -n user.max_user_namespaces >/tmp/most; sysctl -qw user.max_user_namespaces=0",
        "sysctl -qw user.max_user_namespaces=$(cat /tmp/most)",
    ),
    "chirp disabled": Fault(
        "chirp (starter)",
        f"chirp is off: ENABLE_CHIRP_DELAYED = False ({CONFIG_FILE}, line 1)",
        "ENABLE_CHIRP_DELAYED = True",
        **configured("ENABLE_CHIRP_DELAYED = False"),
    ),
    "socket gone": Fault(
        "ledged",
        f"but {SOCKET} is gone",
        "kill ",
        f"mv {SOCKET} {SOCKET}.away",
        f"mv {SOCKET}.away {SOCKET}",
    ),
    "policy unreadable": Fault(
        "policy",
        f"{POLICY}: cannot read it: Is a directory",
        f"condor_ledge policy check {POLICY}",
        f"mv {POLICY} {POLICY}.away && mkdir {POLICY}",
        f"rmdir {POLICY} && mv {POLICY}.away {POLICY}",
    ),
    "policy wrong": Fault(
        "policy",
        f"{POLICY}:2: ",
        f"condor_ledge policy check {POLICY}",
        f"mv {POLICY} {POLICY}.away && printf 'version: 1\\npids: 5\\n' >{POLICY}",
        f"mv {POLICY}.away {POLICY}",
    ),
    "prefix differs on the access point": Fault(
        "chirp (shadow)",
        f"CHIRP_DELAYED_UPDATE_PREFIX = Other* ({CONFIG_FILE}, line 1)",
        "CHIRP_DELAYED_UPDATE_PREFIX = $(CHIRP_DELAYED_UPDATE_PREFIX) Chirp*",
        **configured("SHADOW.CHIRP_DELAYED_UPDATE_PREFIX = Other*"),
    ),
    "another wrapper configured": Fault(
        "configuration",
        f"USER_JOB_WRAPPER = /usr/bin/env ({CONFIG_FILE}, line 1), and not {HOME}/job_wrapper",
        f"USER_JOB_WRAPPER = {HOME}/job_wrapper",
        **configured("USER_JOB_WRAPPER = /usr/bin/env"),
    ),
    "cgroup v1": Fault(
        "control groups",
        "control groups are of version 1",
        "systemd.unified_cgroup_hierarchy=1",
        elsewhere=CGROUP_V1,
    ),
    "PSI off": Fault(
        "pressure",
        "does not account for pressure (PSI)",
        "psi=1",
        elsewhere=NO_PSI,
        too="user namespaces",  # no fresh /proc for users where something in it is covered
    ),
    "no delegation": Fault(
        "control groups",
        f"systemd has delegated no group of {UNIT}",
        "Delegate=yes",
        delegated(0),
        delegated(1),
    ),
    "wrong version": Fault(
        "ledged",
        "ledged is of version ",
        "kill ",
        f"cd {HOME}/*/ledge && cp -p __init__.py /tmp && "
        "sed -i 's/__version__ = .*/__version__ = \"99.0\"/' __init__.py",
        f"cp -p /tmp/__init__.py {HOME}/*/ledge/",
    ),
    "disk full": Fault(
        "disks",
        "/run/condor-ledge: No space left on device",
        "du -xah /run/condor-ledge",
        "fallocate -l $(df --output=avail -B1 /run | tail -1) /run/filler",
        "rm -f /run/filler",
    ),
    "clock jumped": Fault(
        "clock",
        "the clock was set by about -",
        "timedatectl",
        # Back and then forth: the other way round HTCondor's timers would wait for ten minutes.
        "date -s @$(($(date +%s) - 600)) >/dev/null",
        "date -s @$(($(date +%s) + 600)) >/dev/null",
    ),
}


@pytest.fixture(scope="module")
def node(pool: Pool, _installed: None) -> Pool:
    """A node on which all is well, and ledged has found out what it can do."""
    await_ledged(pool)
    pool.root("until [ -e /run/condor-ledge/machine_ad ]; do sleep 0.2; done", timeout=60)
    return pool


def examined(pool: Pool, elsewhere: str = "") -> dict[str, list[dict[str, str]]]:
    """The findings of the doctor by their subjects; it may be in a node of its own."""
    command = "condor_ledge doctor --json"
    if elsewhere:
        command = f"unshare --mount sh -ec '{elsewhere}; exec {command}'"
    done = pool.root(command, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    findings = {one["subject"]: one["findings"] for one in report["subjects"] if one["findings"]}
    status = {"ok": 0, "warning": 1, "fault": 2}[report["status"]]
    assert (done.returncode, done.stderr) == (status, ""), findings
    assert bool(findings) == (status > 0)
    return findings


@pytest.mark.both_pools
def test_a_healthy_node(node: Pool) -> None:
    begin = time.monotonic()
    done = node.root("condor_ledge doctor", check=False)
    print(done.stdout, f"{time.monotonic() - begin:.1f} s")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(("ok ", "        "))] == []
    assert (done.returncode, done.stderr) == (0, "")
    assert max(len(line) for line in lines) <= 80


def test_a_healthy_node_to_an_ordinary_user(node: Pool) -> None:
    done = node.run_as("alice", "condor_ledge doctor", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    untold = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("? ")]
    assert untold == ["namespaces", "control"]
    assert "sudo condor_ledge doctor" in done.stdout


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(node: Pool, name: str) -> None:
    """It alone is found, with what it costs and what mends it."""
    fault = FAULTS[name]
    try:
        node.root(fault.make)
        findings = examined(node, fault.elsewhere)
    finally:
        node.root(fault.undo)
    findings.pop(fault.too, None)
    assert list(findings) == [fault.subject]
    (finding,) = findings[fault.subject]
    print(finding)
    assert fault.problem in finding["problem"]
    assert fault.remedy in finding["remedy"]
    assert finding["cost"]


def test_nothing_is_left_behind(node: Pool) -> None:
    """Also that the faults are gone: it runs once more."""
    mounts = node.root("cat /proc/mounts").stdout
    assert examined(node) == {}
    assert node.root("cat /proc/mounts").stdout == mounts
    left = node.root("ls /tmp /sys/fs/bpf; find /sys/fs/cgroup -name '*preflight*'").stdout
    assert "preflight" not in left
    assert "condor_ledge-" not in left


def await_machine_ad(pool: Pool, expected: str) -> None:
    """Wait until the collector knows of HasLedge what it should."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    command = "condor_status -af HasLedge LedgeMissing"
    while not (told := pool.root(command).stdout).startswith(expected):
        assert time.monotonic() < deadline, told
        time.sleep(0.5)


def test_jobs_require_what_the_node_can_do(node: Pool) -> None:
    await_machine_ad(node, "true undefined")
    can, cannot = node.submit_all([
        Submission(shell("exit 7", REQUIREMENTS.format(kind)), name=kind)
        for kind in ("network", "telepathy")
    ])  # fmt: skip
    can.wait("terminated")
    ad = can.ad()
    assert ad["ExitCode"] == 7
    assert "ChirpLedgeNetworkReceivedBytes" in ad
    assert status_of(cannot) == 1
    node.remove_all_jobs()
    attributes = "LedgeVersion LedgeIsolation LedgeAccounting LedgeLimits"
    told = node.root(f"condor_status -af {attributes}").stdout.splitlines()[0].split()
    assert told[1:] == [
        "pid,mount,ipc,cgroup,uts",
        "cpu,memory,memory_peak,swap,block,processes,pressure,network",
        "pids_max,memory_swap_max,memory_high,cpu_max,io_max,exclusive_cpus",
    ]


def status_of(job: Job) -> int:
    return int(job.ad()["JobStatus"])


def test_without_ledged_nothing_is_advertised(node: Pool) -> None:
    with node.configured("STARTD_CRON_LEDGE_PERIOD = 5s\n"):
        node.root("condor_off -daemon ledged")
        node.root("while pgrep -xo ledged; do sleep 0.2; done", timeout=60)
        await_machine_ad(node, "false ledged does not answer")
        findings = examined(node)
        node.root("condor_on -daemon ledged")
        await_ledged(node)
        assert "ledged is not running" in findings["ledged"][0]["problem"]
        await_machine_ad(node, "true undefined")


@pytest.mark.machine("container")
def test_startd_outlives_reconfigurations_while_it_asks(node: Pool) -> None:
    """With STARTD_CRON_LEDGE_RECONFIG_RERUN = True, it dies by SIGSEGV here."""
    node.plugin_off()
    node.put("#!/bin/sh\nsleep 2\necho HasLedge = true\n", SLOW, mode=0o755)
    startd = node.root("pgrep -x condor_startd").stdout
    with node.configured(f"STARTD_CRON_LEDGE_EXECUTABLE = {SLOW}\n"):
        node.plugin_on()
        node.root(f"until {RUNS}; do sleep 0.1; done; for i in $(seq 20); do condor_reconfig; done")
        node.plugin_off()
        node.root(f"while {RUNS}; do sleep 0.1; done; sleep 1")
    assert node.root("pgrep -x condor_startd").stdout == startd
    node.plugin_on()
