"""What tests need of the machine, and what becomes of a test whose need is not met.

    @pytest.mark.requires("root", "cgroup2")

Each name has a probe that tries the real operation, and a sentence for the admin. A test with a
need that is not met is skipped with that sentence; where CONDOR_LEDGE_NO_SKIP is set, it fails
instead, and so does every other skip: there, what is not tested is an error.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Callable

import pytest

from ledge.job import leaf_v1
from ledge.kernel import bpf
from ledge.kernel.confinement import why_no_scope
from tests.installed import install, uninstall
from tests.kernel import cgroups

NO_SKIP = bool(os.environ.get("CONDOR_LEDGE_NO_SKIP"))
FAILURES = os.environ.get("CONDOR_LEDGE_FAILURES", "")
_failures: set[str] = set()


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _cgroup2_can_be_made() -> bool:
    root = cgroups.mount_point()
    if root is None:
        return False
    try:
        os.rmdir(tempfile.mkdtemp(prefix="ledge-probe-", dir=root))
    except OSError:
        return False
    return True


def _cgroup1_can_be_made() -> bool:
    leaf = leaf_v1.make_leaf_v1() if os.geteuid() == 0 else None
    return leaf is not None and len(leaf.groups) == len(leaf_v1.CONTROLLERS) and leaf.remove()


def _counters_can_be_made() -> bool:
    info = bpf.MapInfo(bpf.MAP_TYPE_CGROUP_STORAGE, 16, 8)
    try:
        os.close(bpf.map_create(info, "ledge_probe"))
    except OSError:
        return False
    return True


def _core_is_a_file() -> bool:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    return pattern == "core"


def _no_plan_on_this_node() -> bool:
    return os.geteuid() == 0 and not os.path.lexists("/etc/condor-ledge")


def _program(name: str) -> Callable[[], bool]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return lambda: shutil.which(name, path=path) is not None


# name: what is to be tried, and what to say if it fails
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "needs root: sudo tests/run"),
    "userns": (
        lambda: _succeeds("/usr/bin/unshare", "--user", "--map-current-user", "--mount", "true"),
        "needs user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone",
    ),
    "cgroup2": (
        _cgroup2_can_be_made,
        "needs a mounted cgroup2 in which a group can be made: root, and cgroup2 not read-only",
    ),
    "cgroup1": (
        _cgroup1_can_be_made,
        "needs the controllers memory, cpuacct, pids, blkio and freezer of cgroup version 1: root",
    ),
    "bpf": (
        _counters_can_be_made,
        "needs eBPF: root, not in a container, and a kernel with CONFIG_CGROUP_BPF",
    ),
    "core": (
        _core_is_a_file,
        "needs core files in the working directory: sysctl kernel.core_pattern=core",
    ),
    "no_plan": (
        _no_plan_on_this_node,
        "needs root on a machine without /etc/condor-ledge, which it makes and removes",
    ),
    "x86_64": (
        lambda: os.uname().machine == "x86_64",
        "needs an x86-64 machine: a program in the test is machine code",
    ),
    "bwrap": (_program("bwrap"), "needs bubblewrap: apt-get install bubblewrap"),
    "runc": (_program("runc"), "needs runc: apt-get install runc"),
    "crun": (_program("crun"), "needs crun: apt-get install crun"),
    "strace": (_program("strace"), "needs strace: apt-get install strace"),
    "ip": (_program("ip"), "needs ip(8): apt-get install iproute2"),
    "psutil": (
        lambda: _succeeds("/usr/bin/python3", "-I", "-c", "import psutil"),
        "needs psutil for /usr/bin/python3: apt-get install python3-psutil",
    ),
    "sshd": (
        lambda: all(_program(name)() for name in ("sshd", "ssh", "scp")),
        "needs OpenSSH: apt-get install openssh-server openssh-client",
    ),
    "nft": (_program("nft"), "needs nft(8): apt-get install nftables"),
    "landlock_scopes": (
        lambda: not why_no_scope(),
        "needs Landlock's scopes: Linux 6.12, and lsm=landlock,... at boot",
    ),
    "tun": (
        lambda: os.path.exists("/dev/net/tun"),
        "needs /dev/net/tun: modprobe tun",
    ),
    "shellcheck": (_program("shellcheck"), "needs shellcheck: apt-get install shellcheck"),
    "rpm": (_program("rpmbuild"), "needs rpmbuild: apt-get install rpm"),
    "rpmlint": (_program("rpmlint"), "needs rpmlint: apt-get install rpmlint"),
    "lintian": (_program("lintian"), "needs lintian: apt-get install lintian"),
    "promtool": (_program("promtool"), "needs promtool: apt-get install prometheus"),
    "node_exporter": (
        _program("prometheus-node-exporter"),
        "needs node_exporter: apt-get install prometheus-node-exporter",
    ),
    "mandoc": (_program("mandoc"), "needs mandoc: apt-get install mandoc"),
    "overlay": (
        lambda: os.geteuid() == 0 and "overlay" in Path("/proc/filesystems").read_text(),
        "needs root and overlayfs: modprobe overlay",
    ),
    # The fixture makes the pool, and says itself what is missing; this only puts its tests last.
    "pool": (lambda: True, ""),
}


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """Where the hooks are, installed from this source tree for the system's Python."""
    home = install()
    yield home
    uninstall(home)


@functools.cache
def unmet(name: str) -> str | None:
    """The sentence for a need that is not met on this machine, or None."""
    probe, sentence = NEEDS[name]
    return None if probe() else sentence


def _names(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("requires") for name in marker.args]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that nobody knows, and put the tests on the pool, which is slow, last."""
    for item in items:
        for name in _names(item):
            if name not in NEEDS:
                known = ", ".join(sorted(NEEDS))
                raise pytest.UsageError(f"{item.nodeid}: requires({name!r}): known are {known}")
    pool = Path(__file__).parent / "pool"
    items.sort(key=lambda item: "pool" in _names(item) or pool in item.path.parents)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, the test for the first need that is not met."""
    for name in _names(item):
        sentence = unmet(name)
        if sentence is not None:
            pytest.skip(sentence)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CONDOR_LEDGE_NO_SKIP a skip is a failure, whoever skipped."""
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CONDOR_LEDGE_NO_SKIP is set: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself."""
    report = yield
    if NO_SKIP and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, but CONDOR_LEDGE_NO_SKIP is set: {_reason(report.longrepr)}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """For tests/run, which has a test that failed once run alone."""
    if FAILURES and report.failed and report.nodeid not in _failures:
        _failures.add(report.nodeid)
        with open(FAILURES, "a", encoding="utf-8") as file:
            file.write(report.nodeid + "\n")


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
