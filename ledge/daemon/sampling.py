"""Readings of the running jobs, every few seconds: all that is known of one that cannot settle.

With hundreds of jobs on a node a reading must cost next to nothing (bench/sampling): few files,
which stay open between readings, and whose text is kept as it is until somebody wants figures.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from errno import ENODEV

from ledge.daemon.log import Log
from ledge.daemon.server import Server
from ledge.daemon.traffic import JobTraffic
from ledge.kernel.cgroup2 import Cgroup
from ledge.kernel.kept_files import Allowance, KeptFiles
from ledge.settle import read_usage
from ledge.usage import Usage
from ledge.usage_of_cgroup2 import (
    CGROUP2_FILES,
    FILES_OF_NOW,
    SAMPLED_FILES,
    add_peak_of_samples,
    anon_and_shmem,
    usage_of_cgroup2,
    usage_of_now,
)

INTERVAL_SECONDS = 5.0
# Of the process's descriptors; the others are for clients and for the jobs' processes and groups.
_SHARE = 0.5
_AT_ONCE = 32
_PAUSE_SECONDS = 0.001


class Sample:
    """The last reading of one job's control group `name` in its slice, and when it was taken.

    `taken` is of time.monotonic(), None before the first reading; `readings` is how many there
    were. Of all of them the text of memory.stat is kept that had the most anon and shmem. `then` is
    called with it after every reading that the sampler takes.
    """

    __slots__ = (
        "name", "slice", "traffic", "then", "taken", "texts", "readings", "_files", "_peak",
        "_peak_text",
    )  # fmt: skip

    def __init__(
        self, slice_: Cgroup, name: bytes, files: Allowance, traffic: JobTraffic | None = None
    ) -> None:
        self.slice = slice_
        self.name = name
        self.traffic = traffic
        self.then: Callable[[Sample], None] = lambda sample: None
        self.taken: float | None = None
        self.texts: dict[str, bytes | None] = {}
        self.readings = 0
        self._files = KeptFiles(SAMPLED_FILES, files)
        self._peak = -1
        self._peak_text: bytes | None = None

    def take(self, files: tuple[str, ...] = ()) -> None:
        """Read anew, with some more files if wanted; they are not kept open.

        A group that is not there yet, or no more, leaves all as it is. Raises OSError.
        """
        try:
            texts = self._read(files)
        except FileNotFoundError:
            return  # not made yet, or the plan has none
        except OSError as error:
            if error.errno != ENODEV:
                raise
            self._files.close()  # removed, or one of its controllers was switched off
            return
        if texts["cpu.stat"] is None:
            return  # every group has it: this one was removed between two files
        self.texts = texts
        self.taken = time.monotonic()
        self.readings += 1
        self._note_peak(texts["memory.stat"])
        if self.traffic is not None:
            self.traffic.take()

    def take_last(self) -> None:
        """Read all that is read when a job settles, of one that does not. Raises OSError."""
        self.take(tuple([name for name in CGROUP2_FILES if name not in SAMPLED_FILES]))

    def usage(self) -> Usage | None:
        """The figures of the last reading, None if there was none."""
        if self.taken is None:
            return None
        usage = usage_of_cgroup2(self.texts, unread="not read while the job runs")
        self.add_peak(usage)
        if self.traffic is not None:
            self.traffic.add_to(usage)
        return usage

    def usage_of_now(self) -> Usage:
        """What the job uses in this moment, for whoever asks: read anew. Raises OSError."""
        self.take(tuple([name for name in FILES_OF_NOW if name not in SAMPLED_FILES]))
        return usage_of_now(self.texts)

    def add_peak(self, usage: Usage) -> None:
        """Add the peak that only the readings know to the figures of the whole job."""
        how = f"highest of {self.readings} readings, one every {INTERVAL_SECONDS:g} s"
        if not self.readings:
            how = f"no reading in the first {INTERVAL_SECONDS:g} s"
        elif self._peak_text is None:
            how = "no anon and shmem in memory.stat"
        add_peak_of_samples(usage, self._peak_text, how)

    def close(self) -> None:
        """Close the files; the slice is whoever's it was."""
        self._files.close()

    def _read(self, more: tuple[str, ...]) -> dict[str, bytes | None]:
        if self._files.are_open() and not more:
            return self._files.read(-1)
        group = Cgroup.open(self.name, self.slice.fd)
        try:
            texts = self._files.read(group.fd)
            for name in more:
                texts[name] = group.read(name)
            return texts
        finally:
            group.close()

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

    def take_last(self, sample: Sample) -> None:
        """Read all there is of a job that has not settled, if its group is still there."""
        self._take(sample, sample.take_last)

    def _begin_round(self) -> None:
        self.server.later(INTERVAL_SECONDS, self._begin_round)
        self._go_on(list(self.running))

    def _go_on(self, left: list[int]) -> None:
        """A few at a time, and between them whoever waits for an answer."""
        for key in left[:_AT_ONCE]:
            sample = self.running.get(key)
            if sample is not None:  # else its job has ended meanwhile
                self._take(sample, sample.take)
                sample.then(sample)
        if len(left) > _AT_ONCE:
            self.server.later(_PAUSE_SECONDS, lambda: self._go_on(left[_AT_ONCE:]))

    def _take(self, sample: Sample, take: Callable[[], None]) -> None:
        try:
            take()
        except OSError as error:
            self.log.write(f"{sample.name.decode()}: no reading: {error.strerror}")


def settled_usage(group: Cgroup, sample: Sample | None, traffic: JobTraffic) -> Usage:
    """The last reading of a job, and what those before it saw. Raises OSError."""
    usage = read_usage(group, slice_is_the_jobs=True)
    if sample is None:
        add_peak_of_samples(usage, None, "ledged was started after the job, and took no samples")
    else:
        sample.add_peak(usage)
    traffic.take()
    traffic.add_to(usage)
    return usage
