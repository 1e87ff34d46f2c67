"""What a job's processes read and wrote, whatever it was: files in the page cache, on NFS, pipes.

The kernel adds what a process read and wrote, and all that it waited for did, to the account of
whoever waits for it (wait_task_zombie() in kernel/exit.c); init waits for all that nobody else did.
So init's own account has in the end what all did, but for processes whose parent ignored SIGCHLD:
nobody waited for those.

/proc/self/io has the account, /proc/thread-self/io what init did itself. Both are opened before
init is made unreadable; reading them is its right all the same (proc(5), ptrace_may_access()).

The same files say what was read from storage and what was to be written there. That is of interest
only where there is no control group.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Optional

    # As init tells it (ledge/job/report.py); None if it told nothing.
    Told = Optional[tuple[int, int, bool]]

FIGURES = ("LogicalReadBytes", "LogicalWriteBytes")
LEFT = "processes were left when the job had ended"
_ACCOUNTS = ("/proc/thread-self/io", "/proc/self/io")
_LOGICAL = (b"rchar", b"wchar")
_STORAGE = (b"read_bytes", b"write_bytes", b"cancelled_write_bytes")
_MOST = 4096


class LogicalIo:
    """The accounts of the calling process, open; `fds` is empty where the kernel keeps none."""

    __slots__ = ("fds", "_before")

    def __init__(self) -> None:
        self.fds: tuple[int, ...] = ()
        try:
            fds = [posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC) for path in _ACCOUNTS]
            self.fds = tuple(fds)
        except OSError:
            pass  # CONFIG_TASK_IO_ACCOUNTING is off, or there is no /proc
        self._before = (0, 0)

    def begin(self) -> None:
        """What was waited for by now is not the job's."""
        self._before = self._waited_for() or (0, 0)

    def read(self) -> tuple[int, int] | None:
        """Bytes read and written by all that were waited for since begin(); None if unknown."""
        waited_for = self._waited_for()
        if waited_for is None:
            return None
        return waited_for[0] - self._before[0], waited_for[1] - self._before[1]

    def storage(self) -> tuple[int, int] | None:
        """Bytes read from storage, and written to what has a storage, by all that were waited for.

        Written counts when a page becomes dirty, less what was thrown away before it was sent.
        """
        both = self._accounts(_STORAGE)
        if both is None:
            return None
        read, written, cancelled = [total - own for own, total in zip(*both[1])]
        return read, max(written - cancelled, 0)

    def _waited_for(self) -> tuple[int, int] | None:
        both = self._accounts(_LOGICAL)
        if both is None:
            return None
        length, (own, total) = both
        # The second reading sees that of the first.
        return total[0] - own[0] - length, total[1] - own[1]

    def _accounts(
        self, keys: tuple[bytes, ...]
    ) -> tuple[int, tuple[tuple[int, ...], tuple[int, ...]]] | None:
        """What stands under the keys, init's own and the whole; with the length of one text."""
        if not self.fds:
            return None
        try:
            own, total = [posix.pread(fd, _MOST, 0) for fd in self.fds]
            return len(own), (parse_account(own, keys), parse_account(total, keys))
        except (OSError, ValueError):
            return None


def parse_account(text: bytes, keys: tuple[bytes, ...] = _LOGICAL) -> tuple[int, ...]:
    """What an io file has under the keys. Raises ValueError."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(b": ")
        if key in keys:
            found[key] = int(value)
    if len(found) != len(keys):
        raise ValueError(f"expected {b', '.join(keys).decode()}, not {text!r:.80}")
    return tuple([found[key] for key in keys])


def incompleteness(told: Told) -> str | None:
    """Why the figures are missing or too low; None if they are neither."""
    if told is None:
        return "init told nothing of its /proc/self/io"
    return None if told[2] else LEFT


def lines(told: Told) -> bytes:
    """The figures as lines of an ad."""
    text = "".join([f"{name} = {value}\n" for name, value in zip(FIGURES, told or ())])
    reason = incompleteness(told)
    if reason is not None:
        text += f'Incomplete = "{", ".join(FIGURES)}: {reason}"\n'
    return text.encode()
