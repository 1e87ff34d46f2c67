"""A job that ledged has launched and whose wrapper lives: what is known of it, and kept open."""

from __future__ import annotations

import os
import time

from ledge.daemon.peer import Process
from ledge.daemon.recording import JobRecord
from ledge.daemon.sampling import Sampler
from ledge.daemon.traffic import JobTraffic
from ledge.kernel.cgroup2 import Cgroup


class RunningJob(Process):
    """Its wrapper, as a process; `slice` is the job's, `name` that of the group in it.

    `settled` says that the last reading has been asked for.
    """

    def __init__(
        self, wrapper: int, slice_: Cgroup, sampler: Sampler, traffic: JobTraffic, record: JobRecord
    ) -> None:
        """Raises OSError."""
        try:
            super().__init__(wrapper)
        except OSError:
            record.close()
            raise
        self.name = group_name(wrapper)
        self.slice = Cgroup(os.dup(slice_.fd))
        self.traffic = traffic
        self.record = record
        self.sampler = sampler
        self.sample = sampler.begin(self.slice, self.name, traffic, record.running)
        self.settled = False

    def last_words(self) -> str:
        """One line of what is known of a job that ended without settling; empty if nothing is.

        Its record gets the same: sampled figures, with their age.
        """
        if self.settled:
            return ""
        self.sampler.take_last(self.sample)
        self.record.killed(self.sample)
        usage = self.sample.usage()
        if usage is None or self.sample.taken is None:
            return ""
        age = time.monotonic() - self.sample.taken
        figures = [f"{name}={value}" for name, value in usage.figures.items() if value is not None]
        figures += [f"OomLevel={usage.oom_level}"] if usage.oom_level else []
        return (
            f"the wrapper {self.pid} has gone without settling; sampled {age:.1f} s before: "
            + ", ".join(figures)
        )

    def close(self) -> None:
        super().close()
        self.sampler.end(self.sample)
        self.record.close()
        self.slice.close()


def group_name(wrapper: int) -> bytes:
    """The name of a job's own group in its slice, by the PID of its wrapper as ledged sees it."""
    return b"ledge-%d" % wrapper
