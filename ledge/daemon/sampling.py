"""Readings of the running jobs, every few seconds: all that is known of one that cannot settle.

With hundreds of jobs on a node a reading must cost next to nothing (bench/sampling): few files,
which stay open between readings, and whose text is kept as it is until somebody wants figures.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from errno import ENODEV
from functools import partial

from ledge.daemon.server import Server
from ledge.daemon.traffic import JobTraffic
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance, KeptFiles
from ledge.log import Log
from ledge.usage.of_cgroup2 import (
    CGROUP2_FILES,
    FILES_OF_NOW,
    SAMPLED_FILES,
    add_peak_of_samples,
    anon_and_shmem,
    usage_of_now,
)
from ledge.usage.reading import read_usage, usage_of_texts
from ledge.usage.usage import Usage

INTERVAL_SECONDS = 5.0
# Of the process's descriptors; the others are for clients and for the jobs' processes and groups.
_SHARE = 0.5
# So long at once, and between them whoever waits for an answer, or is being killed.
_AT_ONCE_SECONDS = 0.001
_PAUSE_SECONDS = 0.001
_AT_THE_END = tuple([name for name in CGROUP2_FILES if name not in SAMPLED_FILES])
_ADDED_NOW = tuple([name for name in FILES_OF_NOW if name not in SAMPLED_FILES])
_FOR_RATES = ("cpu.stat", "io.stat")
_NOT_SAMPLED = "not read while the job runs"
_REMOVED = "not read before the control group was removed"


class Sample:
    """The last reading of one job's control group `name` in its slice, and when it was taken.

    `taken` is of time.monotonic(), None before the first reading; `readings` is how many there
    were. Of all of them the text of memory.stat is kept that had the most anon and shmem. `exact`
    says that the last one was of all there is to read when the job's last process had gone; it
    stays then. `before` is when the reading before was taken, and what rates need of it. `then` is
    called with it after every reading that the sampler takes. `since` says
    from when on there were readings, if that is not the job's start. Of a job that is `dying` each
    reading is of all there is: it may be the last.
    """

    __slots__ = (
        "name", "slice", "traffic", "then", "since", "taken", "texts", "before", "readings",
        "exact", "dying", "_unread", "_files", "_peak", "_peak_text",
    )  # fmt: skip

    def __init__(
        self, slice_: Cgroup, name: bytes, files: Allowance, traffic: JobTraffic | None = None
    ) -> None:
        self.slice = slice_
        self.name = name
        self.traffic = traffic
        self.then: Callable[[Sample], None] = lambda sample: None
        self.since = ""
        self.taken: float | None = None
        self.texts: dict[str, bytes | None] = {}
        self.before: tuple[float, dict[str, bytes | None]] | None = None
        self.readings = 0
        self.exact = False
        self.dying = False
        self._unread = _NOT_SAMPLED
        self._files = KeptFiles(SAMPLED_FILES, files)
        self._peak = -1
        self._peak_text: bytes | None = None

    def take(self, files: tuple[str, ...] = ()) -> None:
        """Read anew, with some more files if wanted; they are not kept open.

        A group that is not there yet, or no more, leaves all as it is. Raises OSError.
        """
        if self.exact:
            return
        if self.dying:
            self.take_last()
            return
        try:
            if self._files.are_open() and not files:
                self._note(self._files.read(-1), _NOT_SAMPLED)
                return
            group = Cgroup.open(self.name, self.slice.fd)
            try:
                self._note(self._read(group, files), _NOT_SAMPLED)
            finally:
                group.close()
        except OSError as error:
            self._missed(error)

    def take_last(self) -> None:
        """Read all that is read when a job settles, of one that may not. Raises OSError.

        Where HTCondor removes the group meanwhile, what was read by then is kept.
        """
        if self.exact:
            return
        try:
            group = Cgroup.open(self.name, self.slice.fd)
            try:
                empty = not group.populated()
                texts = self._read(group, _AT_THE_END)
                unread = _NOT_SAMPLED
                if group.read("cgroup.events") is None:
                    texts = {name: text for name, text in texts.items() if text is not None}
                    unread = _REMOVED
                self.exact = self._note(texts, unread) and empty
            finally:
                group.close()
        except OSError as error:
            self._missed(error)

    def go_on(self) -> None:
        """Somebody is in the group again: there is more to come."""
        self.exact = False

    def is_still_exact(self, group: Cgroup) -> bool:
        """Whether nobody has run in the group since the last process had gone. Raises OSError."""
        return self.exact and group.read("cpu.stat") == self.texts["cpu.stat"]

    def usage(self) -> Usage | None:
        """The figures of the last reading, None if there was none."""
        if self.taken is None:
            return None
        usage = usage_of_texts(self.texts, self._unread)
        self.add_peak(usage)
        if self.traffic is not None:
            self.traffic.add_to(usage)
        return usage

    def usage_before(self) -> Usage | None:
        """What rates need of the figures of the reading before; None if there was none."""
        if self.before is None:
            return None
        usage = usage_of_texts(self.before[1], self._unread)
        if self.traffic is not None:
            self.traffic.add_before_to(usage)
        return usage

    def usage_of_now(self) -> Usage:
        """What the job uses in this moment, if the last reading is of it too. Raises OSError."""
        group = Cgroup.open(self.name, self.slice.fd)
        try:
            added = {name: group.read(name) for name in _ADDED_NOW}
        finally:
            group.close()
        return usage_of_now({**self.texts, **added})

    def add_peak(self, usage: Usage) -> None:
        """Add the peak that only the readings know to the figures of the whole job."""
        how = f"highest of {self.readings} readings, one every {INTERVAL_SECONDS:g} s{self.since}"
        if not self.readings:
            how = f"no reading in the first {INTERVAL_SECONDS:g} s"
        elif self._peak_text is None:
            how = "no anon and shmem in memory.stat"
        add_peak_of_samples(usage, self._peak_text, how)

    def close(self) -> None:
        """Close the files; the slice is whoever's it was."""
        self._files.close()

    def _read(self, group: Cgroup, more: tuple[str, ...]) -> dict[str, bytes | None]:
        texts = self._files.read(group.fd)
        for name in more:
            texts[name] = group.read(name)
        return texts

    def _note(self, texts: dict[str, bytes | None], unread: str) -> bool:
        """Keep what was read; False if the group was removed before that was anything."""
        if texts.get("cpu.stat") is None:
            return False  # every group has it: this one was removed between two files
        if self.taken is not None:
            self.before = self.taken, {name: self.texts.get(name) for name in _FOR_RATES}
        self.texts = texts
        self._unread = unread
        self.taken = time.monotonic()
        self.readings += 1
        self._note_peak(texts.get("memory.stat"))
        if self.traffic is not None:
            self.traffic.take()
        return True

    def _missed(self, error: OSError) -> None:
        """A group that is not there yet, or no more, is no failure. Raises the others."""
        if isinstance(error, FileNotFoundError):
            return  # not made yet, or the plan has none
        if error.errno != ENODEV:
            raise error
        self._files.close()  # removed, or one of its controllers was switched off

    def _note_peak(self, memory_stat: bytes | None) -> None:
        sum_ = anon_and_shmem(memory_stat)
        if sum_ is not None and sum_ > self._peak:
            self._peak, self._peak_text = sum_, memory_stat


class Sampler:
    """The readings of all running jobs, every INTERVAL_SECONDS."""

    def __init__(self, log: Log) -> None:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.files = Allowance(int(most * _SHARE))
        self.log = log
        self.running: dict[int, Sample] = {}

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self.server = server
        server.later(INTERVAL_SECONDS, self._begin_round)

    def begin(
        self,
        slice_: Cgroup,
        name: bytes,
        traffic: JobTraffic | None = None,
        then: Callable[[Sample], None] = lambda sample: None,
    ) -> Sample:
        """A sample that is taken until end(); `then` is called with it after every reading."""
        sample = Sample(slice_, name, self.files, traffic)
        sample.then = then
        self.running[id(sample)] = sample
        return sample

    def end(self, sample: Sample) -> None:
        """Take it no longer; what was read stays."""
        self.running.pop(id(sample), None)
        sample.close()

    def take(self, sample: Sample) -> None:
        """Read before the next round."""
        self._take(sample, sample.take)

    def take_last(self, sample: Sample) -> None:
        """Read all there is of a job that has not settled, if its group is still there."""
        self._take(sample, sample.take_last)

    def _begin_round(self) -> None:
        self.server.later(INTERVAL_SECONDS, self._begin_round)
        self._go_on(list(self.running))

    def _go_on(self, left: list[int]) -> None:
        """A few at a time."""
        until = time.monotonic() + _AT_ONCE_SECONDS
        for number, key in enumerate(left, 1):
            sample = self.running.get(key)
            if sample is not None:  # else its job has ended meanwhile
                self._take(sample, sample.take)
                sample.then(sample)
            if time.monotonic() > until and number < len(left):
                self.server.later(_PAUSE_SECONDS, partial(self._go_on, left[number:]))
                return

    def _take(self, sample: Sample, take: Callable[[], None]) -> None:
        try:
            take()
        except OSError as error:
            self.log.write(f"{sample.name.decode()}: no reading: {error.strerror}")


def settled_usage(group: Cgroup, sample: Sample | None, traffic: JobTraffic) -> Usage:
    """The last reading of a job, and what those before it saw. Raises OSError."""
    if sample is not None and sample.is_still_exact(group):
        usage = sample.usage()
        if usage is not None:
            return usage
    usage = read_usage(group, slice_is_the_jobs=True)
    if sample is None:
        add_peak_of_samples(usage, None, "ledged was started after the job, and took no samples")
    else:
        sample.add_peak(usage)
    traffic.take()
    traffic.add_to(usage)
    return usage
