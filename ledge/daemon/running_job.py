"""A job that ledged has launched and whose wrapper lives: what is known of it, and kept open."""

from __future__ import annotations

import os

from ledge.daemon.changes import Change
from ledge.daemon.peer import Process
from ledge.daemon.recording import JobRecord
from ledge.daemon.sampling import Sampler
from ledge.daemon.settlement import Settlement
from ledge.daemon.traffic import JobTraffic
from ledge.kernel.cgroup2 import Cgroup

_GROUP = b"ledge-"


class RunningJob(Process):
    """Its wrapper, as a process; `slice` is the job's, `name` that of the group in it.

    `settled` says that the last reading has been asked for; `ended` is when the wrapper was found
    gone (time.monotonic()), and `awaited` what has to be empty before it is read for the last time.
    `changes` are the files that are watched for its end, by their names below the slice;
    `sessions` are the wrappers, by PID and start time, that asked to be let into the job;
    `oom_kills` is how many were killed for want of memory when that was looked at last, `at_limit`
    whether the slice's limit has been reached.
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
        self.record = record
        self.sampler = sampler
        self.sample = sampler.begin(self.slice, self.name, traffic, record.running)
        self.settled = False
        self.ended: float | None = None
        self.awaited: Settlement | None = None
        self.changes: dict[str, Change] = {}
        self.oom_kills = 0
        self.at_limit = False
        self.sessions: set[tuple[int, int]] = set()

    def last_words(self) -> str:
        """One line of what is known of a job that ended without settling; empty if nothing is."""
        usage = self.sample.usage()
        if usage is None or self.sample.taken is None or self.ended is None:
            return ""
        figures = [f"{name}={value}" for name, value in usage.figures.items() if value is not None]
        figures += [f"OomLevel={usage.oom_level}"] if usage.oom_level else []
        suggested = usage.suggested_request_mib
        figures += [f"SuggestedRequestMemoryMiB={suggested}"] if suggested else []
        age = max(self.ended - self.sample.taken, 0.0)
        how = "exact" if self.sample.exact else f"sampled {age:.1f} s before"
        return f"the wrapper {self.pid} has gone without settling; {how}: " + ", ".join(figures)

    def uid(self) -> int:
        """Whose its wrapper is. Raises OSError."""
        return int(self.status()[b"Uid"].split()[0])

    def close(self) -> None:
        super().close()
        self.sampler.end(self.sample)
        self.record.close()
        self.slice.close()


def group_name(wrapper: int) -> bytes:
    """The name of a job's own group in its slice, by the PID of its wrapper as ledged sees it."""
    return _GROUP + b"%d" % wrapper


def is_group_name(name: bytes) -> bool:
    """Whether a group of that name in a slice is a job's own."""
    return name.startswith(_GROUP) and name[len(_GROUP) :].isdigit()
