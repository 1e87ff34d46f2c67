"""Figures of jobs that no job can forge: what ledged itself read, on its way to the job ad.

Two ways, each with its switch; docs/recording.md says what each can promise.

    through the starter    LedgeUsage: root adds it to the starter's .update.ad
                           (ledge/publish/update_ad.py), now and then and at the end
    at the schedd          Ledge: it goes into a spool, from which the recorder takes it
                           (ledge/recorder/), every now and then and at the end

Nothing here costs a job anything but, at its end, a short wait for the recorder: what comes to the
schedd after the job has left the queue comes too late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Callable

from ledge.daemon.changes import Change, Changes
from ledge.daemon.peer import Job
from ledge.daemon.sampling import Sample
from ledge.daemon.server import Server
from ledge.kernel.inotify import IN_MOVED_TO
from ledge.kernel.pid_namespaces import pids
from ledge.kernel.proc import start_time
from ledge.log import Log
from ledge.publish.record import AGE, EXACT, READING, RUNNING, SAMPLED, TAKEN, record
from ledge.publish.update_ad import UpdateAd, open_update_ad
from ledge.recorder.spool import Spool, job_key
from ledge.usage.attributes import usage_attributes
from ledge.usage.rates import SECONDS, Rates
from ledge.usage.usage import Usage, add_figures

if TYPE_CHECKING:
    from ledge.classads import Value

    Attributes = Mapping[str, Value]

PATIENCE_SECONDS = 5.0
# Where the recorder could not deliver in that time, the next jobs wait for a moment only.
_SHORT_PATIENCE_SECONDS = 0.25
_PAUSE_SECONDS = 0.01
_FIRST_SECONDS = 60.0
# Other than before with every reading, whatever the job does: no reason to write.
_ALWAYS_NEW = (TAKEN, SECONDS, "Sampled")
_STARTED_ANEW = "ledged was started anew while the job ran"
_OF_THE_START = (
    "Version", "Isolation", "Mounts", "Network", "NetworkAddress", "NetworkPorts",
    "NetworkReason", "Enforced", "NotEnforced",
)  # fmt: skip
# Where inotify cannot be had: a starter reads within moments of the job's end, unless its access
# point is down.
_LOOKS_AT_FIRST = 100
_AT_FIRST_SECONDS = 0.02
_KEEPING_SECONDS = 2.0


class Recording:
    """Where figures go on this node. `spool` is None where nothing is recorded at the schedd."""

    def __init__(
        self,
        server: Server,
        log: Log,
        spool: Spool | None,
        by_starter: bool,
        interval: float,
        usage_interval: float = 30.0,
    ) -> None:
        """Between two records of a running job are `interval` seconds at the schedd, else
        `usage_interval`: a writing takes a quarter of a millisecond, too much for every sample.
        """
        self.server = server
        self.usage_interval = usage_interval
        self.log = log
        self.spool = spool
        self.by_starter = by_starter
        self.interval = interval
        self.counts = {"in_time": 0, "too_late": 0, "not_written": 0}
        self._patience = PATIENCE_SECONDS
        self._dropped = 0
        # Both by their directories.
        self._kept: dict[tuple[int, int], UpdateAd] = {}
        self._watched: dict[tuple[int, int], tuple[UpdateAd, Change]] = {}
        self._changes = Changes(log)
        if by_starter:
            self._changes.attach(server)

    def begin(
        self, job: Job, uid: int, attributes: Attributes | None, starts: Starts | None = None
    ) -> JobRecord:
        """A job starts; `attributes` are those that it has from its start on.

        None for a job that another ledged, or none, has started. `starts` are those before.
        """
        update_ad = None
        key = ""
        try:
            if self.by_starter:
                update_ad = open_update_ad(job.starter.proc, uid)
            if self.spool is not None:
                # The recorder is the starter's neighbour, whatever PID namespace ledged is in.
                key = job_key(pids(job.starter.proc)[-1], start_time(job.starter.proc))
                self.spool.announce(key)
        except OSError as error:
            self.note_failure(error)
        return JobRecord(self, key, update_ad, attributes, starts)

    def note_failure(self, error: OSError) -> None:
        """Figures must not cost a job anything; every failure counts, the first is told."""
        self.counts["not_written"] += 1
        if self.counts["not_written"] == 1:
            self.log.write(f"figures are not recorded: {error}")

    def note_dropped(self) -> None:
        """Tell that the spool is full: when it begins, and with every thousand that is lost."""
        dropped = sum(self.spool.dropped.values()) if self.spool is not None else 0
        if dropped and (self._dropped == 0 or dropped // 1000 > self._dropped // 1000):
            self.log.write(
                f"the spool is full, {dropped} dropped so far; LedgeRecorderLog says why nothing "
                "is delivered"
            )
        self._dropped = dropped

    def status(self) -> dict[str, object]:
        """For condor_ledge status."""
        dropped = self.spool.dropped if self.spool is not None else {}
        return {"by_starter": self.by_starter, "dropped": dropped, **self.counts}

    def take_over(self, update_ad: UpdateAd) -> None:
        """Keep what is written there from now on, whatever the startd puts in its place.

        Another start of the same starter's job may have written there before.
        """
        self._kept.pop(update_ad.directory, None)
        self._unwatch(update_ad.directory)
        written = partial(self._written_anew, update_ad)
        try:
            change = self._changes.begin(update_ad.fd, ".", written, IN_MOVED_TO)
        except FileNotFoundError:
            return  # the starter has ended in this moment
        if change is not None:
            self._watched[update_ad.directory] = update_ad, change

    def let_go(self, update_ad: UpdateAd) -> None:
        """Write there no more, and close it."""
        if self._is_watched(update_ad):
            self._unwatch(update_ad.directory)
        update_ad.close()

    def keep(self, update_ad: UpdateAd) -> None:
        """See that the last figures stay there while the starter lives, and close it then.

        A starter whose access point is down waits for it, and the startd writes the file meanwhile.
        """
        self._kept[update_ad.directory] = update_ad
        self._look_after(update_ad, 0)

    def _look_after(self, update_ad: UpdateAd, looks: int) -> None:
        if self._kept.get(update_ad.directory) is not update_ad:
            self.let_go(update_ad)
        elif self._put_back(update_ad):
            often = looks < _LOOKS_AT_FIRST and not self._is_watched(update_ad)
            pause = _AT_FIRST_SECONDS if often else _KEEPING_SECONDS
            self.server.later(pause, lambda: self._look_after(update_ad, looks + 1))
        else:
            del self._kept[update_ad.directory]
            self.let_go(update_ad)

    def _written_anew(self, update_ad: UpdateAd) -> None:
        self._put_back(update_ad)

    def _put_back(self, update_ad: UpdateAd) -> bool:
        """The startd may have written; False if there is nobody left to read it."""
        try:
            return update_ad.mend()
        except FileNotFoundError:  # the starter has ended in this moment
            return False
        except OSError as error:
            self.note_failure(error)
            return False

    def _is_watched(self, update_ad: UpdateAd) -> bool:
        watched = self._watched.get(update_ad.directory)
        return watched is not None and watched[0] is update_ad

    def _unwatch(self, directory: tuple[int, int]) -> None:
        watched = self._watched.pop(directory, None)
        if watched is not None:
            self._changes.end(watched[1])

    def when_recorded(self, key: str, action: Callable[[], None]) -> None:
        """Call `action` when a job's last figures have left the spool, or it takes too long."""
        self._await(key, time.monotonic() + self._patience, action)

    def _await(self, key: str, deadline: float, action: Callable[[], None]) -> None:
        gone = self.spool is None or not self.spool.holds(key)
        if gone or time.monotonic() > deadline:
            in_time = gone and not (self.spool is not None and key in self.spool.lost)
            self.counts["in_time" if in_time else "too_late"] += 1
            self._patience = PATIENCE_SECONDS if in_time else _SHORT_PATIENCE_SECONDS
            action()
            return
        self.server.later(_PAUSE_SECONDS, lambda: self._await(key, deadline, action))


class Starts:
    """What the starts of a self-checkpointing job have used that have ended.

    As the wrapper adds them up (ledge/wrapper/checkpoints.py). Whatever one starter has started is
    the same job. None is known of those before ledged's own.
    """

    __slots__ = ("figures", "unread")

    def __init__(self) -> None:
        self.figures: dict[str, int | float | None] | None = None
        self.unread = False

    def add_to(self, usage: Usage) -> None:
        """Add them to the figures of a start."""
        if self.figures is not None:
            add_figures(usage, self.figures)
        if self.unread:
            usage.incomplete["an earlier start was not read at its end"] = ["all else"]

    def note(self, usage: Usage | None, exact: bool) -> None:
        """A start has ended; `usage` has the sum with it."""
        if usage is not None:
            self.figures = dict(usage.figures)
        self.unread = self.unread or not exact


class JobRecord:
    """One job's figures on their way."""

    def __init__(
        self,
        recording: Recording,
        key: str,
        update_ad: UpdateAd | None,
        attributes: Attributes | None,
        starts: Starts | None = None,
    ) -> None:
        self.starts = starts or Starts()
        self.recording = recording
        if update_ad is not None:
            recording.take_over(update_ad)
        self.key = key  # in the spool; empty where there is none
        self.update_ad = update_ad
        self.attributes = attributes
        self.ended = False
        now = time.monotonic()
        self._write_due = now if update_ad is not None else math.inf
        self._put_due = now + min(_FIRST_SECONDS, recording.interval) if key else math.inf
        self._rates = Rates(None if attributes is None else now)
        self._written: Attributes = {}
        self._put_last: Attributes = {}

    def running(self, sample: Sample) -> None:
        """Another sample was taken."""
        now = time.monotonic()
        due = not self.ended and now >= min(self._write_due, self._put_due)
        due = due and not sample.exact  # it has ended, and is about to settle
        usage = sample.usage() if due else None
        if usage is None or sample.taken is None:
            return
        of_now = self._of_now(sample, usage)
        self.starts.add_to(usage)
        usage.figures.update(of_now.figures)
        for reason, names in of_now.unmeasured.items():
            usage.unmeasured.setdefault(reason, []).extend(names)
        attributes = self._attributes(usage, RUNNING, _time_of_day(sample.taken))
        said = {name: value for name, value in attributes.items() if name not in _ALWAYS_NEW}
        if now >= self._write_due:
            self._write_due = now + self.recording.usage_interval
            if said != self._written or not self._is_written():
                self._write(attributes)
            self._written = said
        if now >= self._put_due:
            self._put_due = now + self.recording.interval
            if said != self._put_last:
                self._put(attributes, final=False)
            self._put_last = said

    def soon(self, sample: Sample) -> None:
        """Another sample was taken, and there may be no other: it is written whatever is due."""
        if self.update_ad is not None:
            self._write_due = min(self._write_due, time.monotonic())
        self.running(sample)

    def settled(self, usage: Usage, empty: bool, action: Callable[[], None]) -> None:
        """The last reading was taken; `action` lets the job end.

        `empty`: the last process had gone, and was not just waited for in vain.
        """
        self.ended = True
        self.starts.add_to(usage)
        self.starts.note(usage, empty)
        attributes = self._attributes(usage, EXACT if empty else SAMPLED, time.time())
        self._write(attributes if empty else {**attributes, AGE: 0.0})
        self._leave()
        if self._put(attributes, final=True):
            self.recording.when_recorded(self.key, action)
        else:
            action()

    def dying(self, sample: Sample) -> None:
        """The job is killed. The starter looks at once, perhaps before the last process has gone.

        For the schedd there is time to wait for the last reading.
        """
        if not self.ended:
            self._write(self._of_the_end(sample, time.monotonic()))
            self._written = {}

    def killed(self, sample: Sample, ended: float) -> None:
        """The job has ended without settling, at `ended` (time.monotonic()).

        What was read last is all there is.
        """
        if self.ended:
            return
        self.ended = True
        attributes = self._of_the_end(sample, ended, last=True)
        self._write(attributes)
        self._leave()
        if attributes:
            self._put(attributes, final=True)

    def wanted(self) -> bool:
        """Whether figures of this job go anywhere."""
        return bool(self.key) or self.update_ad is not None

    def _leave(self) -> None:
        """The last figures stay until the starter has read them."""
        update_ad, self.update_ad, self._write_due = self.update_ad, None, math.inf
        if update_ad is not None:
            self.recording.keep(update_ad)

    def close(self) -> None:
        """Let go of the starter's directory."""
        if self.update_ad is not None:
            self.recording.let_go(self.update_ad)
            self.update_ad = None
            self._write_due = math.inf

    def _of_now(self, sample: Sample, usage: Usage) -> Usage:
        """The figures of the moment, and the rates."""
        try:
            of_now = sample.usage_of_now()
        except OSError as error:
            of_now = Usage("cgroup")
            self.recording.note_failure(error)
        if sample.taken is not None:
            self._rates.add(usage, sample.taken, of_now)
        return of_now

    def _of_the_end(self, sample: Sample, ended: float, last: bool = False) -> Attributes:
        """Of a job that did not settle; nothing if it was never read."""
        usage = sample.usage() if self.wanted() else None
        if usage is not None:
            self.starts.add_to(usage)
        if last:
            self.starts.note(usage, sample.exact)
        if usage is None or sample.taken is None:
            return {}
        taken = _time_of_day(sample.taken)
        if sample.exact:
            return self._attributes(usage, EXACT, taken)
        age = round(max(ended - sample.taken, 0.0), 3)
        return {**self._attributes(usage, SAMPLED, taken), AGE: age}

    def _attributes(self, usage: Usage, reading: str, taken: float) -> Attributes:
        """All that is said of a reading; `taken` is in seconds since 1970."""
        if self.attributes is None:
            # First: a long text is cut.
            usage.unmeasured = {_STARTED_ANEW: [*_OF_THE_START], **usage.unmeasured}
        attributes = {**(self.attributes or {}), **usage_attributes(usage)}
        return {READING: reading, TAKEN: int(taken), **attributes}

    def _is_written(self) -> bool:
        """Whether the starter's file still has it: the startd writes it anew now and then."""
        return self.update_ad is not None and self.update_ad.is_as_written()

    def _write(self, attributes: Attributes) -> None:
        if self.update_ad is None or not attributes:
            return
        try:
            self.update_ad.write(record(attributes))
        except OSError as error:
            self.recording.note_failure(error)

    def _put(self, attributes: Attributes, final: bool) -> bool:
        if not self.key or self.recording.spool is None:
            return False
        try:
            self.recording.spool.put(self.key, attributes, final)
        except OSError as error:
            self.recording.note_failure(error)
            return False
        self.recording.note_dropped()
        return True


def _time_of_day(moment: float) -> float:
    """A moment of time.monotonic() in seconds since 1970."""
    return time.time() - (time.monotonic() - moment)
