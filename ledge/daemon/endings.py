"""How jobs end for ledged: what happens when a wrapper has gone, and what is seen coming.

A job that ends by itself settles (ledge/daemon/requests.py). One that is killed takes its wrapper
along, and HTCondor removes its control groups in the next moments. So the kernel is asked to tell:

    slice memory.events     somebody was killed for want of memory: everything is read at once;
                            its limit was reached for the first time: that may be next
    own cgroup.events       the job's last process has gone: everything is read, and that is exact
    the wrapper's pidfd     the wrapper has gone

What comes first is acted on. Where inotify cannot be had, the group of a job whose wrapper has gone
is looked at every few milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ledge.daemon.changes import Changes
from ledge.daemon.running_job import RunningJob
from ledge.daemon.sampling import Sampler
from ledge.daemon.server import Server
from ledge.daemon.settlement import Settlement
from ledge.kernel.cgroup2 import Cgroup, parse_flat_keyed
from ledge.kernel.inotify import IN_CREATE, IN_MODIFY
from ledge.log import Log

PAUSE_SECONDS = 0.005


class Endings:
    """What is waited for of every running job, and what is done then.

    `ended` is called when the last figures of one are known.
    """

    def __init__(self, sampler: Sampler, log: Log) -> None:
        self.sampler = sampler
        self.log = log
        self.changes = Changes(log)
        self.ended: Callable[[RunningJob], None] = lambda running: None
        # Of jobs that ended without settling.
        self.counts = {"exact": 0, "sampled": 0, "not_read": 0}

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self.server = server
        self.changes.attach(server)

    def await_end(self, running: RunningJob, ended: Callable[[], None]) -> None:
        """Watch a job; `ended` is called when its wrapper has gone, and is to call gone()."""
        self.server.watch(running.pidfd, ended)
        self._watch(running, "memory.events", partial(self._killed, running))
        # Its own group is still to be made, by init.
        self._watch(running, ".", partial(self._made, running), IN_CREATE)
        self._made(running)

    def look(self, running: RunningJob) -> None:
        """Begin with a job that was there before ledged; perhaps its wrapper alone is left."""
        running.sample.since = ", since ledged was started anew"
        self.sampler.take(running.sample)
        self._left(running)

    def status(self) -> dict[str, object]:
        """For condor_ledge status."""
        changes = self.changes
        watched = {"watches": len(changes), "paused": changes.paused, "problem": changes.problem}
        return {**self.counts, **watched}

    def gone(self, running: RunningJob) -> None:
        """The wrapper has gone, and with it the job; where it could not settle, it is read now."""
        self.server.forget(running.pidfd)
        for name in ("memory.events", "."):  # the slice may be the next job's, of the same claim
            self._forget(running, name)
        running.ended = time.monotonic()
        if running.settled:
            self._close(running)
            return
        self.sampler.take_last(running.sample)
        settlement = _settlement(running)
        if settlement is not None and not running.sample.exact:
            running.record.dying(running.sample)
        self._await_last(running, settlement)

    def remove(self, settlement: Settlement) -> None:
        """Remove the group of a job that has been read."""
        if settlement.remove() or settlement.late():
            settlement.close()
        else:
            self.server.later(PAUSE_SECONDS, lambda: self.remove(settlement))

    # ---- what the kernel tells

    def _made(self, running: RunningJob) -> None:
        """Something was made in the slice: the job's own group, or a group of the user's."""
        name = f"{running.name.decode()}/cgroup.events"
        if running.ended is None and self._watch(running, name, partial(self._left, running)):
            self._forget(running, ".")

    def _killed(self, running: RunningJob) -> None:
        """memory.events of the slice has changed: was somebody killed?"""
        limit_reached, kills, of_all = _memory_events(running.slice)
        if limit_reached and not running.at_limit and not kills:
            running.at_limit = True
            self.sampler.take(running.sample)
            running.record.soon(running.sample)
        if kills <= running.oom_kills:
            return
        running.oom_kills = kills
        running.sample.dying = of_all
        self._read_last(running)

    def _left(self, running: RunningJob) -> None:
        """cgroup.events of the job's group has changed: has the last process gone?"""
        try:
            populated = _populated(running)
        except OSError:
            return  # the group has gone: the wrapper has, too, or soon will
        if populated:
            running.sample.go_on()
            return
        self._read_last(running)
        if running.awaited is not None and running.sample.exact:
            self._finish(running, running.awaited)

    def _read_last(self, running: RunningJob) -> None:
        """Read all, and leave it where HTCondor looks as soon as it sees the wrapper dead."""
        self.sampler.take_last(running.sample)
        if running.sample.dying and running.awaited is None:
            running.record.dying(running.sample)

    # ---- after the wrapper

    def _await_last(self, running: RunningJob, settlement: Settlement | None) -> None:
        """Kill what is left, and read the group when its last process has gone."""
        if running.sample.exact or settlement is None:
            self._finish(running, settlement)
            return
        running.awaited = settlement
        try:
            over = settlement.empty() or settlement.late()
        except OSError:
            over = True
        if over:
            self.sampler.take_last(running.sample)
            self._finish(running, settlement)
        else:
            self.server.later(PAUSE_SECONDS, lambda: self._look_again(running))

    def _look_again(self, running: RunningJob) -> None:
        if running.awaited is not None:  # else the kernel has told in time
            self._await_last(running, running.awaited)

    def _finish(self, running: RunningJob, settlement: Settlement | None) -> None:
        running.awaited = None
        running.record.killed(running.sample, running.ended or time.monotonic())
        read = "exact" if running.sample.exact else "sampled"
        self.counts["not_read" if running.sample.taken is None else read] += 1
        last_words = running.last_words()
        if last_words:
            self.log.write(last_words)
        self._close(running)
        if settlement is not None:
            self.remove(settlement)

    def _close(self, running: RunningJob) -> None:
        self.ended(running)
        for name in list(running.changes):
            self._forget(running, name)
        running.close()

    def _watch(
        self, running: RunningJob, name: str, action: Callable[[], None], mask: int = IN_MODIFY
    ) -> bool:
        """Whether a file below the slice is watched; if it is not there, or cannot be, False."""
        try:
            change = self.changes.begin(running.slice.fd, name, action, mask)
        except FileNotFoundError:
            return False
        if change is not None:
            running.changes[name] = change
        return change is not None

    def _forget(self, running: RunningJob, name: str) -> None:
        change = running.changes.pop(name, None)
        if change is not None:
            self.changes.end(change)


def _settlement(running: RunningJob) -> Settlement | None:
    """None if the group has gone, or was never made."""
    try:
        return Settlement(running.slice, running.name)
    except OSError:
        return None


def _populated(running: RunningJob) -> bool:
    """Raises OSError."""
    group = Cgroup.open(running.name, running.slice.fd)
    try:
        return group.populated()
    finally:
        group.close()


def _memory_events(slice_: Cgroup) -> tuple[int, int, bool]:
    """How often the limit was reached, how many were killed, and whether the slice as a whole.

    A job can have groups of its own killed as a whole; memory.events counts those, too.
    """
    try:
        events, local = [
            parse_flat_keyed(slice_.read(name), name)
            for name in ("memory.events", "memory.events.local")
        ]
    except (OSError, ValueError):
        return 0, 0, False
    return local.get(b"max", 0), events.get(b"oom_kill", 0), local.get(b"oom_group_kill", 0) > 0
