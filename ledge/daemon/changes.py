"""Control files of running jobs of which the kernel says when they change: one inotify for all.

A job can make its own files change as often as it likes; it is listened to for _AT_ONCE times in
_PAUSE_SECONDS, and then once when that is over. Whoever acts on a change looks at the file itself,
so that nothing is lost by it but time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ledge.daemon.server import Server
from ledge.kernel.inotify import IN_MODIFY, Watches
from ledge.log import Log

_AT_ONCE = 4
_PAUSE_SECONDS = 1.0


class Change:
    """A file that is watched; `action` is called when it has changed."""

    __slots__ = ("directory", "name", "mask", "action", "watch", "since", "times", "ended")

    def __init__(self, directory: int, name: str, mask: int, action: Callable[[], None]) -> None:
        self.directory = directory
        self.name = name
        self.mask = mask
        self.action = action
        self.watch: int | None = None  # None while it is not listened to
        self.since = 0.0
        self.times = 0
        self.ended = False

    def is_one_too_many(self, now: float) -> bool:
        """Whether it has changed too often of late."""
        if now - self.since > _PAUSE_SECONDS:
            self.since, self.times = now, 0
        self.times += 1
        return self.times > _AT_ONCE


class Changes:
    """All files that are watched; without inotify, none, and who would be told looks by itself."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.paused = 0  # how often, for want of quiet
        self.problem = ""
        self._by_watch: dict[int, Change] = {}
        self._watches: Watches | None = None

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self.server = server
        try:
            self._watches = Watches()
        except OSError as error:
            self._tell(error, "fs.inotify.max_user_instances")
        else:
            server.watch(self._watches.fd, self._changed)

    def begin(
        self, directory: int, name: str, action: Callable[[], None], mask: int = IN_MODIFY
    ) -> Change | None:
        """Call `action` from now on; None if that cannot be had.

        `directory` stays open until end(). Raises FileNotFoundError.
        """
        change = Change(directory, name, mask, action)
        return change if self._add(change) else None

    def end(self, change: Change) -> None:
        """Watch it no longer."""
        change.ended = True
        self._remove(change)

    def __len__(self) -> int:
        return len(self._by_watch)

    def _add(self, change: Change) -> bool:
        """Raises FileNotFoundError."""
        if self._watches is None:
            return False
        try:
            change.watch = self._watches.add(change.directory, change.name, change.mask)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._tell(error, "fs.inotify.max_user_watches")
            return False
        self._by_watch[change.watch] = change
        return True

    def _remove(self, change: Change) -> None:
        if change.watch is not None and self._watches is not None:
            self._by_watch.pop(change.watch, None)
            self._watches.remove(change.watch)
            change.watch = None

    def _changed(self) -> None:
        assert self._watches is not None
        found = self._watches.take()
        now = time.monotonic()
        for watch in list(self._by_watch) if found is None else found:
            change = self._by_watch.get(watch)
            if change is None:
                continue  # ended in this round, or before what came was taken
            if change.is_one_too_many(now):
                self._pause(change)
            else:
                change.action()

    def _pause(self, change: Change) -> None:
        self.paused += 1
        self._remove(change)
        self.server.later(_PAUSE_SECONDS, lambda: self._go_on(change))

    def _go_on(self, change: Change) -> None:
        if change.ended:
            return
        try:
            self._add(change)
        except FileNotFoundError:
            pass  # gone with its group; whoever waits for that looks by itself
        change.action()

    def _tell(self, error: OSError, limit: str) -> None:
        """Once: what cannot be watched is looked at every few milliseconds when a job ends."""
        if not self.problem:
            self.problem = f"control files are not watched: {error.strerror}; see {limit}"
            self.log.write(self.problem)
