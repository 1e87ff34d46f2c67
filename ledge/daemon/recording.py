"""Figures of jobs that no job can forge: what ledged itself read, on its way to the job ad.

Two ways, each with its switch; docs/recording.md says what each can promise.

    through the starter    LedgeUsage: root adds it to the starter's .update.ad
                           (ledge/publish/update_ad.py), every half minute and at the end
    at the schedd          Ledge: it goes into a spool, from which the recorder takes it
                           (ledge/recorder/), every now and then and at the end

Nothing here costs a job anything but, at its end, a short wait for the recorder: what comes to the
schedd after the job has left the queue comes too late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable

from ledge.attributes import usage_attributes
from ledge.daemon.log import Log
from ledge.daemon.peer import Job
from ledge.daemon.sampling import Sample
from ledge.daemon.server import Server
from ledge.launcher.likeness import read
from ledge.publish.record import FINAL, READING, RUNNING, SAMPLED, TAKEN, record
from ledge.publish.update_ad import UpdateAd, open_update_ad
from ledge.recorder.spool import Spool, job_key
from ledge.usage import Usage

if TYPE_CHECKING:
    from ledge.classads import Value

    Attributes = Mapping[str, Value]

PATIENCE_SECONDS = 5.0
# Where the recorder could not deliver in that time, the next jobs wait for a moment only.
_SHORT_PATIENCE_SECONDS = 0.25
_PAUSE_SECONDS = 0.01
_FIRST_SECONDS = 60.0
# A writing takes a quarter of a millisecond; with hundreds of jobs that is not for every sample.
_WRITING_SECONDS = 30.0


class Recording:
    """Where figures go on this node. `spool` is None where nothing is recorded at the schedd."""

    def __init__(
        self, server: Server, log: Log, spool: Spool | None, by_starter: bool, interval: float
    ) -> None:
        """`interval` is in seconds, between two records of a running job at the schedd."""
        self.server = server
        self.log = log
        self.spool = spool
        self.by_starter = by_starter
        self.interval = interval
        self.counts = {"in_time": 0, "too_late": 0, "not_written": 0}
        self._patience = PATIENCE_SECONDS
        self._dropped = 0

    def begin(self, job: Job, uid: int, attributes: Attributes) -> JobRecord:
        """A job starts; `attributes` are those that it has from its start on."""
        update_ad = None
        key = ""
        try:
            if self.by_starter:
                update_ad = open_update_ad(job.starter.proc, uid)
            if self.spool is not None:
                key = job_key(job.starter.pid, _start_time(job.starter.proc))
                self.spool.announce(key)
        except OSError as error:
            self.note_failure(error)
        return JobRecord(self, key, update_ad, attributes)

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

    def when_recorded(self, key: str, action: Callable[[], None]) -> None:
        """Call `action` when a job's last figures have left the spool, or it takes too long."""
        self._await(key, time.monotonic() + self._patience, action)

    def _await(self, key: str, deadline: float, action: Callable[[], None]) -> None:
        in_time = self.spool is None or not self.spool.holds(key)
        if in_time or time.monotonic() > deadline:
            self.counts["in_time" if in_time else "too_late"] += 1
            self._patience = PATIENCE_SECONDS if in_time else _SHORT_PATIENCE_SECONDS
            action()
            return
        self.server.later(_PAUSE_SECONDS, lambda: self._await(key, deadline, action))


class JobRecord:
    """One job's figures on their way."""

    def __init__(
        self, recording: Recording, key: str, update_ad: UpdateAd | None, attributes: Attributes
    ) -> None:
        self.recording = recording
        self.key = key  # in the spool; empty where there is none
        self.update_ad = update_ad
        self.attributes = attributes
        self.ended = False
        now = time.monotonic()
        self._write_due = now if update_ad is not None else math.inf
        self._put_due = now + min(_FIRST_SECONDS, recording.interval) if key else math.inf

    def running(self, sample: Sample) -> None:
        """Another sample was taken."""
        now = time.monotonic()
        due = not self.ended and now >= min(self._write_due, self._put_due)
        usage = sample.usage() if due else None
        if usage is None:
            return
        attributes = self._attributes(usage)
        if now >= self._write_due:
            self._write_due = now + _WRITING_SECONDS
            self._write(attributes, RUNNING)
        if now >= self._put_due:
            self._put_due = now + self.recording.interval
            self._put(attributes, final=False)

    def settled(self, usage: Usage, action: Callable[[], None]) -> None:
        """The last reading was taken; `action` lets the job end."""
        self.ended = True
        attributes = self._attributes(usage)
        self._write(attributes, FINAL)
        self.close()
        if self._put(attributes, final=True):
            self.recording.when_recorded(self.key, action)
        else:
            action()

    def killed(self, sample: Sample) -> None:
        """The job has ended and could not be read: what the last sample had is all there is."""
        usage = sample.usage() if self.wanted() and not self.ended else None
        self.ended = True
        if usage is not None and sample.taken is not None:
            age = time.monotonic() - sample.taken
            taken = int(time.time() - age)
            attributes = {**self._attributes(usage), READING: SAMPLED, TAKEN: taken}
            self._write(attributes, SAMPLED)
            self._put(attributes, final=True)

    def wanted(self) -> bool:
        """Whether figures of this job go anywhere."""
        return bool(self.key) or self.update_ad is not None

    def close(self) -> None:
        """Let go of the starter's directory."""
        if self.update_ad is not None:
            self.update_ad.close()
            self.update_ad = None
            self._write_due = math.inf

    def _attributes(self, usage: Usage) -> Attributes:
        return {**self.attributes, **usage_attributes(usage)}

    def _write(self, attributes: Attributes, reading: str) -> None:
        if self.update_ad is None:
            return
        try:
            self.update_ad.write(record({READING: reading, TAKEN: int(time.time()), **attributes}))
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


def _start_time(proc: int) -> int:
    """When the process was started (proc(5), stat), in ticks since boot. Raises OSError."""
    return int((read(proc, "stat") or b"").rpartition(b")")[2].split()[19])
