"""The packages, installed, upgraded and removed by rpm and dpkg, in a copy of this system.

The copy is an overlay of the root file system in a mount and a PID namespace of its own: nothing
of it is left, and what a package's scripts end or start is not this machine's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledge import __version__
from tests.packages import build, build_distribution

pytestmark = pytest.mark.requires("root", "overlay", "rpm")

HOME = "/usr/libexec/condor/condor-ledge"
SNIPPET = "/etc/condor/config.d/50-condor-ledge.conf"
POLICY = "/etc/condor-ledge/policy.yaml"
PLACES = "/etc/condor /etc/condor-ledge /usr/libexec/condor /usr/bin /usr/share/condor-ledge"
OVERLAY = """
mount -t tmpfs tmpfs "$0" && mkdir "$0/upper" "$0/work" "$0/root" &&
mount -t overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" overlay "$0/root" &&
mount -t proc proc "$0/root/proc" && mount --bind /dev "$0/root/dev" &&
mkdir -p "$0/root/packages" && cp "$@" "$0/root/packages" &&
exec chroot "$0/root" sh -c 'echo ready && exec cat'
"""
INSTALL = {"rpm": "rpm --upgrade --replacepkgs", "deb": "dpkg --install"}
REMOVE = {"rpm": "rpm --erase", "deb": "dpkg --remove"}
CONDORS = """mkdir -p /etc/condor/config.d /usr/libexec/condor &&
touch /etc/condor/config.d/00-condor.conf /usr/libexec/condor/condor_chirp"""
# condor, as far as dpkg is concerned.
CONDOR = """Package: condor
Version: 25.14
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: what condor-ledge depends on
"""


class Node:
    """A copy of this system with packages in /packages; it ends with its standard input."""

    def __init__(self, directory: Path, packages: list[Path]) -> None:
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        script = ["sh", "-c", OVERLAY, str(directory), *map(str, packages)]
        self._process = subprocess.Popen(
            [*isolated, *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        # Said from within: before that, a command would be run on this machine itself.
        assert self._process.stdout.readline() == "ready\n"
        pid = self._process.pid
        self._pid = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()

    def run(self, command: str) -> str:
        """What a shell command prints; it must end with 0."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--root", "--wd"]
        done = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> set[str]:
        """All there is where the package has something."""
        return set(self.run(f"find {PLACES} 2>/dev/null || :").splitlines())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(params=["rpm", "deb"])
def kind(request: pytest.FixtureRequest) -> str:
    word: str = request.param
    return word


@pytest.fixture
def node(kind: str, tmp_path: Path) -> Iterator[Node]:
    packages = [build(kind, tmp_path, release) for release in (1, 2)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages.append(
        build_distribution(tmp_path, python) if kind == "rpm" else empty_deb(tmp_path / "condor")
    )
    (tmp_path / "overlay").mkdir()
    node = Node(tmp_path / "overlay", packages)
    try:
        node.run(f"{INSTALL[kind]} /packages/{packages[-1].name} 2>&1")
        node.run(CONDORS)
        yield node
    finally:
        node.close()


def empty_deb(directory: Path) -> Path:
    (directory / "DEBIAN").mkdir(parents=True)
    (directory / "DEBIAN/control").write_text(CONDOR)
    package = directory.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "--build", directory, package], check=True, capture_output=True)
    return package


def install(node: Node, kind: str, release: int) -> None:
    """With everything that it requires: whoever is not there is an error."""
    name = {"rpm": f"-{release}.noarch.rpm", "deb": f"-{release}_all.deb"}[kind]
    node.run(f"{INSTALL[kind]} /packages/condor-ledge*{name} 2>&1")


def bytecode_is_used(node: Node) -> bool:
    """No module is compiled when a hook is started, nor anything written."""
    said = node.run(f"python3 -ISE -v {HOME}/prepare_job_alone 2>&1 </dev/null")
    ours = [line for line in said.splitlines() if f"{HOME}/{__version__}" in line]
    compiled = [line for line in ours if line.startswith(("# code object from '", "# wrote"))
                and line.rstrip("'").endswith(".py")]  # fmt: skip
    return any(" matches " in line for line in ours) and not compiled


def test_installed_upgraded_and_removed(node: Node, kind: str) -> None:
    before = node.files()
    verify = {"rpm": "rpm --verify condor-ledge", "deb": "dpkg --verify condor-ledge"}[kind]
    install(node, kind, 1)
    assert node.run(verify) == ""
    assert node.run("condor_ledge --version").strip() == f"condor_ledge {__version__}"
    assert node.run(f"cat {HOME}/installed.conf") == "LEDGE_INSTALLED = True\n"
    assert bytecode_is_used(node)

    node.run(f"echo '# mine' >>{SNIPPET}; echo '# mine' >>{POLICY}")
    install(node, kind, 2)
    assert node.run(f"tail -qn 1 {SNIPPET} {POLICY}") == "# mine\n# mine\n"
    assert node.run(f"ls -d {HOME}/[0-9]*").split() == [f"{HOME}/{__version__}-2"]
    assert bytecode_is_used(node)

    node.run(f"{REMOVE[kind]} condor-ledge 2>&1")
    kept = {
        # What the administrator has changed is saved under a name that HTCondor does not read.
        "rpm": {f"{SNIPPET}.rpmsave", f"{POLICY}.rpmsave", "/etc/condor-ledge"},
        # Debian keeps it in place, and without installed.conf it does nothing.
        "deb": {SNIPPET, POLICY, "/etc/condor-ledge"},
    }[kind]
    assert node.files() - before == kept
    if kind == "deb":
        node.run("dpkg --purge condor-ledge 2>&1")
        assert node.files() == before


def test_what_stays_for_a_starter_that_is_running(node: Node, kind: str) -> None:
    """It may start its job once more (tests/pool/test_packages.py); then the package may come."""
    install(node, kind, 1)
    node.run("cp /bin/sleep /condor_starter && { /condor_starter 300 >/dev/null 2>&1 & }")
    node.run(f"{REMOVE[kind]} condor-ledge 2>&1")
    variable = "_CONDOR_WRAPPER_ERROR_FILE"
    for wrapper in ("job_wrapper", "job_wrapper_alone"):
        command = f"{variable}=x {HOME}/{wrapper} sh -c 'echo $1 ${{{variable}-unset}}' sh 'a  b'"
        assert node.run(command) == "a b unset\n"
    assert node.run(f"echo ad | {HOME}/prepare_job; echo ad | {HOME}/prepare_job_alone") == ""
    install(node, kind, 1)
    assert bytecode_is_used(node)


def test_the_same_release_again(node: Node, kind: str) -> None:
    install(node, kind, 1)
    install(node, kind, 1)
    assert bytecode_is_used(node)


def test_it_does_not_go_without_what_it_requires(node: Node, kind: str) -> None:
    absent = {"rpm": "rpm --erase distribution", "deb": "dpkg --purge condor"}[kind]
    node.run(f"{absent} 2>&1")
    with pytest.raises(AssertionError, match="condor"):
        install(node, kind, 1)
