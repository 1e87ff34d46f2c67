"""LedgeLog: a line an event, in the style of HTCondor's logs, rotated when it has grown.

HTCondor manual, "MAX_<SUBSYS>_LOG": the old file is kept beside the new one as LedgeLog.old.
"""

from __future__ import annotations

import contextlib
import os
import time

MOST_COMPLAINTS = 30
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """A log file; `path` None means standard error, as for a service of systemd's.

    A disk that is full must not stop the daemon: what cannot be written is lost.
    """

    def __init__(self, path: str | None, maximum_bytes: int = 10 << 20) -> None:
        """Raises OSError if there can be no such file."""
        self.path = path
        self.maximum_bytes = maximum_bytes
        self.fd = 2 if path is None else os.open(path, _FLAGS, 0o644)
        self._complaints: dict[int, int] = {}  # about each user, in the current minute
        self._minute = 0

    def write(self, text: str) -> None:
        """Write one line, whatever the text contains."""
        stamp = time.strftime("%m/%d/%y %H:%M:%S", time.localtime())
        line = "".join([c if c.isprintable() else " " for c in text])
        try:
            os.write(self.fd, f"{stamp} {line}\n".encode("utf-8", "backslashreplace"))
            if self.path is not None and os.fstat(self.fd).st_size > self.maximum_bytes:
                self._rotate(self.path)
        except OSError:
            pass

    def complain(self, uid: int, text: str) -> None:
        """Write a line about what a user's process did, up to a number of such lines a minute.

        Nobody is to fill the disk, or to push what others did out of the log.
        """
        minute = int(time.monotonic()) // 60
        if minute != self._minute:
            self._minute, self._complaints = minute, {}
        number = self._complaints[uid] = self._complaints.get(uid, 0) + 1
        if number <= MOST_COMPLAINTS:
            self.write(text)
        if number == MOST_COMPLAINTS:
            self.write(f"no more lines about the user {uid} in this minute")

    def reopen(self) -> None:
        """Open the file anew, for those who rotate it themselves. Raises OSError."""
        if self.path is not None:
            fd = os.open(self.path, _FLAGS, 0o644)
            os.close(self.fd)
            self.fd = fd

    def _rotate(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # the last time there was no descriptor left
            os.replace(path, path + ".old")
        self.reopen()
