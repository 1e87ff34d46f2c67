"""What the host must have, and how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.kernel import cgroups
from tests.pool.errors import NeedsError
from tests.pool.progress import Progress

PROGRAM_PACKAGES: dict[str, str] = {
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "mke2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
DISK_BYTES = 12 << 30
MEMORY_BYTES = 5 << 30
SYSTEM_PATH = os.defpath + ":/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str:
    """Full path of a program, /usr/sbin included."""
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise NeedsError(f"{name} is missing: apt-get install {PROGRAM_PACKAGES[name]}")
    return found


def missing_packages() -> list[str]:
    """Debian packages of the programs that are not here."""
    path = os.environ.get("PATH", "") + ":" + SYSTEM_PATH
    items = PROGRAM_PACKAGES.items()
    return sorted({package for name, package in items if not shutil.which(name, path=path)})


def install_missing_packages(progress: Progress) -> None:
    """Install what is missing with apt-get; as another user than root, say how."""
    packages = missing_packages()
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    remedy = "as root: " + " ".join(command)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NeedsError(f"missing packages {', '.join(packages)}; {remedy}")
    with progress.step(f"installing {', '.join(packages)}", 60):
        _apt(["apt-get", "update"], remedy)
        _apt(command, remedy)


def _apt(command: list[str], remedy: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise NeedsError(f"{' '.join(command)} failed; {remedy}\n{done.stdout}")


def check_build(cache: Path) -> None:
    """Raise NeedsError unless an image can be built here."""
    problems = []
    if os.geteuid() != 0:
        problems.append("only root can build the image: sudo tests/pool/pool build")
    free = shutil.disk_usage(cache).free
    if free < DISK_BYTES:
        problems.append(
            f"{cache} has {free >> 30} GB free of the {DISK_BYTES >> 30} GB needed: "
            "free some, or set CONDOR_LEDGE_CACHE to a directory elsewhere"
        )
    _raise_any(problems)


def check_run() -> None:
    """Raise NeedsError unless a machine can run here."""
    problems = []
    available = memory_available_bytes()
    if available < MEMORY_BYTES:
        problems.append(
            f"{available >> 20} MB of memory are available of the {MEMORY_BYTES >> 20} MB "
            "needed: stop other programs (a machine of ours: tests/pool/pool down)"
        )
    _raise_any(problems)


def check_container() -> None:
    """Raise NeedsError unless a container can run here."""
    problems = []
    if os.geteuid() != 0:
        problems.append("only root can start a container: sudo, or CONDOR_LEDGE_MACHINE=vm")
    if cgroups.mount_point() is None:
        problems.append("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        problems.append("the kernel has no overlayfs: modprobe overlay")
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        problems.append("core files go elsewhere: sysctl kernel.core_pattern=core")
    _raise_any(problems)


def memory_available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise NeedsError("/proc/meminfo has no MemAvailable: a Linux kernel from 3.14 on is needed")


def _raise_any(problems: list[str]) -> None:
    if problems:
        raise NeedsError("\n".join(problems))
