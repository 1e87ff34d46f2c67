"""The spool: a file for what is to be told of a job, from ledged to the recorder.

    PID-START.start   the job has begun: the recorder finds out which one it is
    PID-START.live    figures while it runs; the next ones replace them
    PID-START.final   the last ones
    PID-START.job     the recorder's own: which job that is

PID-START is the job's starter, by its PID and the time at which it was started (proc(5)): whose it
is the startd says, and nobody else is asked. The directory is the recorder's user's, so that it can
remove what it has delivered, and closed to all others; ledged, which is root, only makes files
there and never opens one that it finds.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ledge.publish.record import EXACT, READING, RUNNING, TAKEN, record

if TYPE_CHECKING:
    from ledge.classads import Value

START, LIVE, LAST, JOB = "start", "live", "final", "job"
MOST_FILES = 4096
LARGEST_FILE = 65536
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = ".new"
_LONGEST_KEY = 40
_LATELY = 256


class Name(NamedTuple):
    """What a file's name says: whose it is and of which kind."""

    key: str
    kind: str

    def __str__(self) -> str:
        return f"{self.key}.{self.kind}"


class Entry(NamedTuple):
    """What a file holds; `identity` tells it from one that replaces it."""

    name: Name
    record: str
    identity: tuple[int, int]


def job_key(pid: int, start_time: int) -> str:
    """The key of what a starter's job uses; `start_time` as /proc/PID/stat has it, in ticks."""
    return f"{pid}-{start_time}"


def parse_key(key: str) -> tuple[int, int] | None:
    """The starter's PID and start time; None for a key that is none."""
    pid, _, start_time = key.partition("-")
    if len(key) > _LONGEST_KEY or not (pid.isdigit() and start_time.isdigit()):
        return None
    return int(pid), int(start_time)


def parse_name(text: str) -> Name | None:
    """What a file's name says; None for a file that is not of ours."""
    key, _, kind = text.partition(".")
    known = kind in (START, LIVE, LAST, JOB)
    return Name(key, kind) if known and parse_key(key) is not None else None


class Spool:
    """The spool directory. `dropped` counts, by kind, what had to make room for others.

    `lost` are the keys of the jobs whose last figures those were, lately.
    """

    def __init__(self, path: str, most_files: int = MOST_FILES) -> None:
        """Raises OSError if there is no such directory."""
        self.path = path
        self.fd = os.open(path, _DIRECTORY)
        self.most_files = most_files
        self.dropped = {START: 0, LIVE: 0, LAST: 0}
        self.lost: deque[str] = deque(maxlen=_LATELY)

    # ---- ledged's side

    def announce(self, key: str) -> None:
        """A job has begun. Raises OSError."""
        self._make(Name(key, START), b"")

    def put(self, key: str, attributes: Mapping[str, Value], final: bool) -> None:
        """Figures of a job, in place of earlier ones; never waits for anybody. Raises OSError.

        `attributes` are named without a prefix. What has them removed is for the recorder to say;
        see `holds`.
        """
        reading = EXACT if final else RUNNING
        text = record({READING: reading, TAKEN: int(time.time()), **attributes})
        self._make(Name(key, LAST if final else LIVE), text.encode("utf-8", "replace"))

    def holds(self, key: str) -> bool:
        """Whether a job's last figures still wait here."""
        try:
            os.stat(f"{key}.{LAST}", dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _make(self, name: Name, content: bytes) -> None:
        self._make_room()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=self.fd)
        fd = os.open(_NEW, _MAKE, 0o644, dir_fd=self.fd)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, content)
        finally:
            os.close(fd)
        os.rename(_NEW, str(name), src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def _make_room(self) -> None:
        """Drop the oldest where there is too much: live figures first, the last ones last."""
        names = [name for name in self.names() if name.kind != JOB]
        excess = len(names) + 1 - self.most_files
        if excess <= 0:
            return
        for name in sorted(names, key=self._worth)[:excess]:
            self.remove(name)
            self.dropped[name.kind] += 1
            if name.kind == LAST:
                self.lost.append(name.key)

    def _worth(self, name: Name) -> tuple[int, float]:
        try:
            changed = os.stat(str(name), dir_fd=self.fd, follow_symlinks=False).st_mtime
        except OSError:
            changed = 0.0
        return (LIVE, START, LAST).index(name.kind), changed

    # ---- the recorder's side

    def names(self) -> list[Name]:
        """Every file that is of ours. Raises OSError."""
        return [name for name in map(parse_name, os.listdir(self.fd)) if name is not None]

    def read(self, name: Name) -> Entry | None:
        """What a file holds; None if it is gone, or not as ledged writes it."""
        try:
            fd = os.open(str(name), _READ, dir_fd=self.fd)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            text = os.read(fd, LARGEST_FILE) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(fd)
        if not text.endswith(b"]"):
            return None  # cut off by a disk that is full
        identity = (status.st_ino, status.st_mtime_ns)
        return Entry(name, text.decode("utf-8", "replace"), identity)

    def remove(self, name: Name, identity: tuple[int, int] | None = None) -> None:
        """Remove a file; with `identity`, unless another has taken its place."""
        with contextlib.suppress(FileNotFoundError):
            if identity is not None:
                status = os.stat(str(name), dir_fd=self.fd, follow_symlinks=False)
                if (status.st_ino, status.st_mtime_ns) != identity:
                    return
            os.unlink(str(name), dir_fd=self.fd)

    def close(self) -> None:
        """Close the directory."""
        os.close(self.fd)


def make_spool(path: str, uid: int, gid: int) -> None:
    """Make the directory of a recorder of that user; as root. Raises OSError."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fd = os.open(path, _DIRECTORY)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
