"""Readings of the running jobs, every few seconds: all that is known of one that cannot settle.

The files stay open between readings, and their text is kept as it is until somebody wants figures:
with hundreds of jobs on a node a reading must cost next to nothing (bench/hooks --crowd).
"""

from __future__ import annotations

import os
import time
from errno import ENODEV

from ledge.kernel.cgroup2 import Cgroup
from ledge.usage import CGROUP2_FILES, Usage, usage_of_cgroup2

INTERVAL_SECONDS = 5.0
_LARGEST_FILE = 65536
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Sample:
    """The last reading of one job's control group `name` in its slice, and when it was taken.

    `taken` is of time.monotonic(); None before the first reading.
    """

    __slots__ = ("name", "slice", "taken", "texts", "_files")

    def __init__(self, slice_: Cgroup, name: bytes) -> None:
        self.slice = slice_
        self.name = name
        self.taken: float | None = None
        self.texts: dict[str, bytes | None] = {}
        self._files: dict[str, int] = {}

    def take(self) -> None:
        """Read anew; a group that is not there yet, or no more, leaves all as it is."""
        try:
            if not self._files:
                self._open()
            texts = {name: os.pread(fd, _LARGEST_FILE, 0) for name, fd in self._files.items()}
        except FileNotFoundError:
            return  # not made yet, or the plan has none
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return  # removed in this moment
        self.texts = {**dict.fromkeys(CGROUP2_FILES), **texts}
        self.taken = time.monotonic()

    def usage(self) -> Usage | None:
        """The figures of the last reading, None if there was none."""
        return usage_of_cgroup2(self.texts) if self.taken is not None else None

    def close(self) -> None:
        """Close the files; the slice is whoever's it was."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _open(self) -> None:
        group = Cgroup.open(self.name, self.slice.fd)
        try:
            for name in CGROUP2_FILES:
                try:
                    self._files[name] = os.open(name, _FLAGS, dir_fd=group.fd)
                except FileNotFoundError:
                    continue  # an older kernel, or a controller that is off
        finally:
            group.close()
