"""inotify(7): a descriptor that is readable when something has come into a directory."""

from __future__ import annotations

import posix

from ledge.kernel.syscalls import inotify_add_watch, inotify_init

IN_MOVED_TO = 0x80  # linux/inotify.h
_READ_BYTES = 65536


def watch_directory(path: bytes) -> int:
    """A descriptor that is readable when a file was renamed into the directory. Raises OSError."""
    fd = inotify_init()
    inotify_add_watch(fd, path, IN_MOVED_TO)
    return fd


def take_events(fd: int) -> None:
    """Forget what has come so far. Raises OSError."""
    try:
        while len(posix.read(fd, _READ_BYTES)) == _READ_BYTES:
            pass
    except BlockingIOError:
        pass
