"""inotify(7): a descriptor that is readable when something has come, or has changed.

Of a control file the kernel says so itself (IN_MODIFY) when what it would show is another: of
cgroup.events and memory.events, at most every 10 ms (kernel/cgroup/cgroup.c, cgroup_file_notify).
A watch of a file that is removed with its control group stays, and keeps the inode, until it is
removed as well.
"""

from __future__ import annotations

import contextlib
import posix
import struct
from collections.abc import Iterator

from ledge.kernel.syscalls import inotify_add_watch, inotify_init, inotify_rm_watch

# linux/inotify.h
IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_Q_OVERFLOW = 0x4000
IN_DONT_FOLLOW = 0x02000000
_READ_BYTES = 65536
_EVENT = struct.Struct("iIII")


def watch_directory(path: bytes) -> int:
    """A descriptor that is readable when a file was renamed into the directory. Raises OSError."""
    fd = inotify_init()
    inotify_add_watch(fd, path, IN_MOVED_TO)
    return fd


def take_events(fd: int) -> None:
    """Forget what has come so far. Raises OSError."""
    for _ in _events(fd):
        pass


class Watches:
    """Many files and directories, through one descriptor."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        """Raises OSError: EMFILE beyond fs.inotify.max_user_instances."""
        self.fd = inotify_init()

    def add(self, directory: int, name: str, mask: int) -> int:
        """Watch a file below an open directory, or with "." the directory itself.

        Raises OSError: ENOSPC beyond fs.inotify.max_user_watches.
        """
        path = b"/proc/self/fd/%d/%s" % (directory, name.encode())
        return inotify_add_watch(self.fd, path, mask | IN_DONT_FOLLOW)

    def remove(self, watch: int) -> None:
        """Watch it no longer; a kernel that has removed it with its file does not mind."""
        with contextlib.suppress(OSError):
            inotify_rm_watch(self.fd, watch)

    def take(self) -> set[int] | None:
        """The watches of which something has come; None if there was more than the kernel keeps."""
        found: set[int] | None = set()
        for watch, mask in _events(self.fd):
            if mask & IN_Q_OVERFLOW:
                found = None
            elif found is not None:
                found.add(watch)
        return found

    def close(self) -> None:
        """Close the descriptor, and with it all watches."""
        posix.close(self.fd)


def _events(fd: int) -> Iterator[tuple[int, int]]:
    """The watch and the mask of each event until now. Raises OSError."""
    length = _READ_BYTES
    while length > _READ_BYTES // 2:  # an event of a directory is longer, and must fit
        try:
            text = posix.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        length = len(text)
        offset = 0
        while offset < length:
            watch, mask, _, name_length = _EVENT.unpack_from(text, offset)
            offset += _EVENT.size + name_length
            yield watch, mask
