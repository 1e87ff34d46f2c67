"""Control groups for tests, made by hand as HTCondor's starter makes them for a job."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

DELEGATED = ("", "cgroup.procs", "cgroup.subtree_control")  # "": the directory itself


def mount_point() -> Path | None:
    """Where cgroup2 is mounted; None if it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, file_system = line.partition(" - ")
        if file_system.startswith("cgroup2 "):
            return Path(fields.split()[4])
    return None


class Slice:
    """A job's slice with the scope in which the starter puts the wrapper, delegated to a user."""

    def __init__(self, name: str, uid: int) -> None:
        root = mount_point()
        assert root is not None
        self.path = root / name
        self.scope = self.path / "test.scope"
        self.path.mkdir()
        controllers = (root / "cgroup.subtree_control").read_text().split()
        for controller in controllers:
            (self.path / "cgroup.subtree_control").write_text(f"+{controller}")
        self.scope.mkdir()
        for file in DELEGATED:
            os.chown(self.path / file, uid, -1)

    @classmethod
    def of(cls, path: Path) -> Slice:
        """One that another process has made."""
        slice_ = cls.__new__(cls)
        slice_.path, slice_.scope = path, path / "test.scope"
        return slice_

    def groups(self) -> list[str]:
        """What is below the slice beside the scope, by relative path."""
        # A walk passes over those that are removed meanwhile.
        paths = [Path(path) for path, _, _ in os.walk(self.path)]
        found = {str(path.relative_to(self.path)) for path in paths[1:]}
        return sorted(found - {self.scope.name})

    def processes(self) -> list[int]:
        """All processes in the slice and below it, those that are gone but for their status too."""
        found: set[int] = set()
        for path, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):  # a group removed in this moment
                found.update(map(int, Path(path, "cgroup.procs").read_text().split()))
        return sorted(found)

    def is_empty(self) -> bool:
        """Whether no process is left, after a moment for those that are just going."""
        for _ in range(200):
            if "populated 0" in (self.path / "cgroup.events").read_text():
                return True
            time.sleep(0.01)
        return False

    def remove(self) -> None:
        """Kill and remove everything."""
        (self.path / "cgroup.kill").write_text("1")
        self.is_empty()
        directories = [path for path in self.path.rglob("*") if path.is_dir()]
        for path in [*sorted(directories, reverse=True), self.path]:
            _remove(path)


class OneGroup(Slice):
    """A job's only group, as HTCondor before 24.8 makes it: the wrapper stands in it."""

    def __init__(self, name: str, uid: int, above: Path | None = None) -> None:
        root = above or mount_point()
        assert root is not None
        self.path = self.scope = root / name
        self.path.mkdir()
        for file in DELEGATED:
            os.chown(self.path / file, uid, -1)


def _remove(path: Path) -> None:
    for _ in range(100):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)  # a process that has just gone can keep its group busy for a moment
    path.rmdir()
