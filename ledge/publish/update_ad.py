"""A job's figures into its ad through the starter's .update.ad: by root, without a token.

The startd leaves a slot's ad as .update.ad beside the job's scratch directory, and the starter
tells the shadow those attributes of it that its configuration names as a resource's usage, with
each update and with the last one; the shadow takes every attribute whose name ends in "Usage"
(HTCondor's src/condor_starter.V6.1/jic_shadow.cpp publishStartdUpdates,
src/condor_shadow.V6.1/remoteresource.cpp updateFromStarter). LedgeUsage is added here to what the
startd wrote. The startd writes it anew now and then, without LedgeUsage, and it is put back
(ledge/daemon/recording.py).

From HTCondor 25.4 on (STARTER_NESTED_SCRATCH) the file is in a directory of HTCondor's own user;
where it is in one of the job's, a job could write it too, and nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import stat

ATTRIBUTE = "LedgeUsage"
_NAME = ".update.ad"
_NEW_NAME = ".update.ad.ledge"
_LINE_START = ATTRIBUTE.encode() + b" "
_LARGEST_FILE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UpdateAd:
    """The .update.ad of one starter."""

    __slots__ = ("_record", "_written", "directory", "fd")

    def __init__(self, fd: int) -> None:
        """`fd` is its directory; see open_update_ad."""
        self.fd = fd
        status = os.fstat(fd)
        self.directory = (status.st_dev, status.st_ino)
        self._record = ""
        self._written: tuple[int, int] | None = None

    def write(self, record: str) -> None:
        """Put the record there, in place of an earlier one. Raises OSError."""
        lines = [line for line in self._lines() if not line.startswith(_LINE_START)]
        line = f"{ATTRIBUTE} = {record}".encode("utf-8", "replace")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NEW_NAME, dir_fd=self.fd)
        fd = os.open(_NEW_NAME, _MAKE, 0o644, dir_fd=self.fd)
        try:
            os.fchmod(fd, 0o644)  # whatever the umask: the starter reads it as the job's user
            _write(fd, b"\n".join([*lines, line, b""]))
            self._written = _identity(os.fstat(fd))
        finally:
            os.close(fd)
        os.rename(_NEW_NAME, _NAME, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self._record = record

    def mend(self) -> bool:
        """Put the record back if the startd has written anew; False if the starter has ended.

        Raises OSError.
        """
        if not os.fstat(self.fd).st_nlink:
            return False  # the directory is gone
        if self._record and not self.is_as_written():
            self.write(self._record)
        return True

    def is_as_written(self) -> bool:
        """Whether nobody has put another file in place of what was written last."""
        try:
            found = os.stat(_NAME, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return _identity(found) == self._written

    def close(self) -> None:
        """Close the directory."""
        os.close(self.fd)

    def _lines(self) -> list[bytes]:
        """What the startd wrote; nothing before it has. An empty line would end the ad."""
        try:
            fd = os.open(_NAME, _READ, dir_fd=self.fd)
        except FileNotFoundError:
            return []
        try:
            return [line for line in os.read(fd, _LARGEST_FILE).split(b"\n") if line]
        finally:
            os.close(fd)


def open_update_ad(starter: int, uid: int) -> UpdateAd | None:
    """Of a starter, by the descriptor of its directory in /proc; `uid` is the job's user.

    None where HTCondor has no such directory of its own. Raises OSError.
    """
    try:
        # The starter's working directory is the scratch directory.
        fd = os.open("cwd/../htcondor", _DIRECTORY, dir_fd=starter)
    except FileNotFoundError:
        return None
    try:
        above = os.stat("..", dir_fd=fd)
        trusted = _is_htcondor_s(os.fstat(fd), uid) and _is_htcondor_s(above, uid)
    except OSError:
        os.close(fd)
        raise
    if not trusted:
        os.close(fd)
        return None
    return UpdateAd(fd)


def _is_htcondor_s(status: os.stat_result, uid: int) -> bool:
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid != uid and not writable


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def _write(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]
