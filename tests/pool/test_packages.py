"""The packages on a node: installed, upgraded and removed while jobs run.

The .deb is what this Debian takes. The RPM is made on the node from the source package, as for any
distribution with another Python, and installed by rpm beside Debian's own packages; a package
without files stands for what it requires (tests/packages.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packages import DISTRIBUTION_SPEC, build
from tests.pool.condor import SWITCH_FILE, Pool
from tests.pool.conftest import SOURCE_ROOT
from tests.pool.job import Job
from tests.pool.kinds import PLACE as IN_PLACE
from tests.pool.test_ledged import ISOLATION, await_ledged, finish, ledged_pid, running_job
from tests.pool.test_pool import shell

pytestmark = pytest.mark.machine("container")

HOME = "/usr/libexec/condor/condor-ledge"
PLACE = "/root/packages"
REBUILD = """set -e; cd /root/packages; builds=
for source in *.src.rpm; do
    rpmbuild --rebuild --nodeps --quiet --define "_topdir $PWD/$source.d" \\
        --define '__os_install_post %{nil}' $source & builds="$builds $!"
done
rpmbuild -bb --quiet --define "_topdir $PWD/distribution.d" distribution.spec
for build in $builds; do wait $build; done
mv */RPMS/noarch/*.rpm .
rpm --upgrade distribution-1-1.noarch.rpm"""
INSTALL = {
    "deb": "apt-get install --yes --quiet {place}/condor-ledge_*-{release}_all.deb",
    "rpm": "rpm --upgrade --verbose {place}/condor-ledge-*-{release}.noarch.rpm",
}
# Started twice by one starter: the second time when the package has gone.
CHECKPOINTING = """#!/bin/sh
if [ -e state ]; then echo done; env | grep -c WRAPPER_ERROR; exit 7; fi
touch "$PLACE/running"
while [ ! -e "$PLACE/gate" ]; do sleep 0.2; done
touch state
exit 85
"""
DESCRIPTION = """executable = checkpointing
should_transfer_files = yes
checkpoint_exit_code = 85
transfer_checkpoint_files = state
"""
NOTHING_LEFT = f"""apt-get purge --yes condor-ledge; rpm --erase condor-ledge
rpm --erase distribution; rm -rf {PLACE}"""
VARYING = ("#", "LEDGE", "PID ", "POOL_CONFIGURATION", "PPID ")
REMOVE = {"deb": "apt-get remove --yes --quiet condor-ledge", "rpm": "rpm --erase condor-ledge"}


class Node:
    """The pool's node, and one kind of package in two releases."""

    def __init__(self, pool: Pool, kind: str) -> None:
        self.pool = pool
        self.kind = kind

    def bring(self) -> None:
        """Put the packages there."""
        with tempfile.TemporaryDirectory() as directory:
            for release in (1, 2):
                package = build(self.kind, Path(directory), release)
                for path in package.parent.glob("*.deb" if self.kind == "deb" else "*.src.rpm"):
                    self.pool.put(path, f"{PLACE}/{path.name}")
        if self.kind == "rpm":
            version = "import sys; print('%d.%d' % sys.version_info[:2])"
            python = self.pool.root(f'python3 -c "{version}"').stdout.strip()
            self.pool.put(DISTRIBUTION_SPEC % {"python": python}, f"{PLACE}/distribution.spec")
            self.pool.root(REBUILD, timeout=600)

    def install(self, release: int) -> None:
        self.pool.root(INSTALL[self.kind].format(place=PLACE, release=release))

    def remove(self) -> None:
        self.pool.root(REMOVE[self.kind])

    def configuration(self) -> list[str]:
        """HTCondor's, but for what is without effect."""
        lines = self.pool.root("condor_config_val -dump; condor_config_val -master DAEMON_LIST")
        return [line for line in lines.stdout.splitlines() if not line.startswith(VARYING)]





@pytest.fixture(scope="module")
def bare_pool(pool: Pool) -> Iterator[Pool]:
    """The pool without condor-ledge, which the other tests have again."""
    try:
        yield pool
    finally:
        pool.install(SOURCE_ROOT)


@pytest.fixture(params=["deb", "rpm"])
def node(request: pytest.FixtureRequest, bare_pool: Pool) -> Iterator[Node]:
    """A node without condor-ledge, and the packages."""
    node = Node(bare_pool, request.param)
    bare_pool.root(f"{NOTHING_LEFT}; rm -f {SWITCH_FILE}", check=False)
    bare_pool.reconfigure()
    try:
        node.bring()
        yield node
    finally:
        bare_pool.remove_all_jobs()
        bare_pool.root(NOTHING_LEFT, check=False)


def had_ledge(ad: dict[str, Any]) -> bool:
    return any(name.startswith("ChirpLedge") or name == "LedgeUsage" for name in ad)


def start_checkpointing(pool: Pool) -> Job:
    job = pool.submit(DESCRIPTION + IN_PLACE, files={"checkpointing": CHECKPOINTING})
    pool.root(f"until [ -e {job.path('running')} ]; do sleep 0.2; done", timeout=60)
    return job


def test_installed_upgraded_and_removed_while_jobs_run(node: Node) -> None:
    """Each job ends as it would without, and with what was there when it was started."""
    pool = node.pool
    without = node.configuration()
    before = running_job(pool)

    node.install(1)
    pool.reconfigure()
    first = await_ledged(pool)
    isolated = running_job(pool)
    assert not had_ledge(finish(pool, before))

    node.install(2)
    second = await_ledged(pool, other_than=first)
    ad = finish(pool, isolated)
    assert (ad["ChirpLedgeIsolation"], ad["ChirpLedgeTracking"]) == (ISOLATION, "cgroup")
    checkpointing = start_checkpointing(pool)

    node.remove()
    assert ledged_pid(pool) == second
    pool.reconfigure()
    pool.root(f"while kill -0 {second} 2>/dev/null; do sleep 0.2; done", timeout=60)
    pool.root(f"touch {checkpointing.path('gate')}")
    checkpointing.wait("terminated")
    assert (checkpointing.ad()["ExitCode"], checkpointing.output()) == (7, b"done\n0\n")
    assert node.configuration() == without
    after = pool.submit(shell("exit 7"))
    after.wait("terminated")
    assert after.ad()["ExitCode"] == 7
    assert not had_ledge(after.ad())
    # What stays for the starter of the job that checkpoints itself goes with it.
    pool.root(f"while [ -e {HOME} ]; do sleep 1; done", timeout=120)
