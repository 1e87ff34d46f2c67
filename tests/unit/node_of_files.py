"""A node whose groups are directories of ordinary files: what its jobs' slices say, and hold.

`Kernel` does to what is written what the kernel does (as seen on Linux 7.2), or refuses it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from ledge.kernel.block_devices import FileSystem
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.cpu_topology import cpu_list, parse_cpu_list
from ledge.limits.enforcement import Receipt, enforce, give_back
from ledge.plan.limits import Limits
from tests.unit import captured_devices
from tests.unit.captured_devices import DISK_LINKS, DISKS, TWO_NODES

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ON_DISK = FileSystem(254, 1, "ext4")

# A job's slice as the starter leaves it: request_memory of 256 MB, and no swap.
SLICE = {
    "cgroup.type": "domain\n",
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.subtree_control": "cpu io memory pids\n",
    "pids.max": "max\n",
    "memory.current": "421888\n",
    "memory.high": "max\n",
    "memory.max": "268435456\n",
    "memory.swap.max": "0\n",
    "cpu.max": "max 100000\n",
    "cpu.max.burst": "0\n",
    "io.max": "",
    "io.weight": "default 100\n",
}
ABOVE = {
    "cgroup.type": "domain\n",
    "cgroup.controllers": "cpuset cpu io memory pids\n",
    "cgroup.subtree_control": "cpu io memory pids\n",
    "cgroup.procs": "",
    "pids.max": "max\n",
    "memory.high": "max\n",
}
UNIT = "system.slice/condor.service"


class Kernel(Cgroup):
    """Files that round and refuse as the kernel's do."""

    refusals: ClassVar[dict[str, int]] = {}
    ignored: ClassVar[set[str]] = set()
    written: ClassVar[list[tuple[str, str]]] = []

    def write(self, name: str, value: bytes) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{self.fd}"), name)
        file = path.name
        if file in self.refusals:
            raise OSError(self.refusals[file], os.strerror(self.refusals[file]))
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        self.written.append((f"{path.parent.name}/{file}", value.decode().strip()))
        if file not in self.ignored:
            path.write_text(self._made_of(path, value.decode().strip()) + "\n")

    def _made_of(self, path: Path, text: str) -> str:
        if path.name.startswith("memory.") and text != "max":
            return str(int(text) // PAGE_BYTES * PAGE_BYTES)
        if path.name in ("cpuset.cpus", "cpuset.mems"):
            return cpu_list(parse_cpu_list(text.encode(), path.name))
        if path.name == "cgroup.subtree_control":
            return self._hand_on(path, text.lstrip("+"))
        return self._io_max(path, text) if path.name == "io.max" else text

    def _io_max(self, path: Path, text: str) -> str:
        number, *pairs = text.split()
        keys = dict.fromkeys(("rbps", "wbps", "riops", "wiops"), "max")
        for line in path.read_text().splitlines():
            keys.update(pair.split("=") for pair in line.split()[1:])  # type: ignore[misc]
        keys.update(pair.split("=") for pair in pairs)  # type: ignore[misc]
        return " ".join([number, *(f"{key}={value}" for key, value in keys.items())])

    def _hand_on(self, path: Path, controller: str) -> str:
        for child in path.parent.iterdir():
            if child.is_dir() and (child / "cgroup.controllers").exists():
                self._add(child / "cgroup.controllers", controller)
                effective = {"cpuset.cpus": "", "cpuset.mems": "", "cpuset.cpus.effective": "0-15"}
                for name, text in effective.items():
                    (child / name).write_text(f"{text}\n")
        return f"{path.read_text().strip()} {controller}"

    def _add(self, path: Path, controller: str) -> None:
        path.write_text(f"{path.read_text().strip()} {controller}\n")


class Node:
    """A machine: its groups, its /sys, and jobs."""

    def __init__(self, root: Path) -> None:
        self.sysfs = captured_devices.plant(root / "sys", TWO_NODES, DISKS)
        captured_devices.plant_links(self.sysfs, DISK_LINKS)
        self.root = root / "cgroup"
        self.jobs = self.root / UNIT / "htcondor"
        captured_devices.plant(self.root, {"cgroup.controllers": "cpuset cpu\n", "io.cost.qos": ""})
        for group in ("system.slice", UNIT, f"{UNIT}/htcondor"):
            captured_devices.plant(self.root / group, ABOVE)
        for name in ("slot1_1", "slot1_2", "slot1_3"):
            captured_devices.plant(self.jobs / f"{name}.slice", SLICE)
        (self.jobs / "htcondor.log").mkdir()  # no slice

    def slice(self, name: str = "slot1_1") -> Path:
        return self.jobs / f"{name}.slice"

    def text(self, file: str, name: str = "slot1_1") -> str:
        return (self.slice(name) / file).read_text().strip()

    def enforce(
        self, name: str = "slot1_1", scratch: FileSystem | None = ON_DISK, **limits: float
    ) -> Receipt:
        return self.set(limits, name, scratch)

    def set(
        self,
        limits: Mapping[str, float],
        name: str = "slot1_1",
        scratch: FileSystem | None = ON_DISK,
    ) -> Receipt:
        wanted = Limits()
        for limit, value in limits.items():
            setattr(wanted, limit, value)
        group = Kernel.open(os.fsencode(self.slice(name)))
        try:
            return enforce(group, wanted, scratch, self.sysfs)
        finally:
            group.close()

    def give_back(self, name: str = "slot1_1") -> dict[str, str]:
        group = Kernel.open(os.fsencode(self.slice(name)))
        try:
            return give_back(group, self.sysfs)
        finally:
            group.close()

    def cpus(self) -> list[str]:
        return [self.text("cpuset.cpus", name) for name in ("slot1_1", "slot1_2", "slot1_3")]


def delegate(monkeypatch: pytest.MonkeyPatch, unit: str, attribute: str) -> None:
    """Have systemd mark one group: ordinary files need not have extended attributes."""

    def getxattr(fd: int, name: str) -> bytes:
        if name == attribute and os.readlink(f"/proc/self/fd/{fd}").endswith(f"/{unit}"):
            return b"1"
        raise OSError(errno.ENODATA, "No data available")

    monkeypatch.setattr(os, "getxattr", getxattr)
