"""Control files that stay open, to be read again and again.

A file is opened once and read from its beginning each time; what was read is not looked at here.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE

from ledge.kernel.cgroup2 import text_of

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Allowance:
    """How many files may be kept open by all together."""

    __slots__ = ("left",)

    def __init__(self, files: int) -> None:
        self.left = files


class KeptFiles:
    """Some files of one directory by name; those that are not there are left out.

    Without an allowance for them, or when the process or the node has no descriptors left, they are
    opened for each reading: slower, but no failure.
    """

    __slots__ = ("names", "_allowance", "_fds", "_missing")

    def __init__(self, names: tuple[str, ...], allowance: Allowance) -> None:
        self.names = names
        self._allowance = allowance
        self._fds: dict[str, int] = {}
        self._missing: dict[str, bytes | None] = {}

    def read(self, directory: int) -> dict[str, bytes | None]:
        """The texts by name, None for a file that is not there. Raises OSError.

        `directory` is a descriptor of theirs, which is used only where they are not open.
        """
        if not self._fds and not self._keep(directory):
            return {name: read_once(name, directory) for name in self.names}
        texts = self._missing.copy()
        for name, fd in self._fds.items():
            texts[name] = text_of(fd)
        return texts

    def are_open(self) -> bool:
        """Whether they are open already."""
        return bool(self._fds)

    def close(self) -> None:
        """Close them."""
        for fd in self._fds.values():
            os.close(fd)
        self._allowance.left += len(self._fds)
        self._fds.clear()
        self._missing.clear()

    def _keep(self, directory: int) -> bool:
        """Open them all; whether that could be. Raises OSError."""
        if self._allowance.left < len(self.names):
            return False
        try:
            for name in self.names:
                try:
                    self._fds[name] = os.open(name, _FLAGS, dir_fd=directory)
                    self._allowance.left -= 1
                except FileNotFoundError:
                    self._missing[name] = None  # an older kernel, or a controller that is off
        except OSError as error:
            self.close()
            if error.errno not in (EMFILE, ENFILE):
                raise
            return False
        return bool(self._fds)


def read_once(name: str, directory: int) -> bytes | None:
    """The text of a file of the directory, None if it is not there. Raises OSError."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        return text_of(fd)
    finally:
        os.close(fd)
