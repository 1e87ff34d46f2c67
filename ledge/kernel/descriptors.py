"""File descriptors: none of ours reaches the job, and none of the job's stays with us."""

from __future__ import annotations

import posix

from ledge.kernel.syscalls import close_range

_HIGHEST = 0xFFFFFFFF


def hold_standard_streams() -> None:
    """Occupy closed standard descriptors, so that none of ours becomes the job's by accident.

    They are close-on-exec: to the job they are closed, as they were.
    """
    while True:
        fd = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        if fd > 2:
            posix.close(fd)
            return


def release_descriptors(keep: tuple[int, ...]) -> None:
    """Point the standard streams at /dev/null and close all other descriptors but `keep`.

    So a pipe that the job writes to ends for its reader when the job closes it.
    """
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    for fd in (0, 1, 2):
        posix.dup2(null, fd)
    close_all_but((0, 1, 2, *keep))


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close all descriptors but `keep`."""
    first = 0
    for fd in sorted(keep):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first, _HIGHEST)
