"""One look at all processes of a job, by psutil."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import psutil

from ledge.tracking.membership import Marks
from ledge.tracking.seen import Reading
from ledge.tracking.views import started, view_of


class Looks:
    """Looks at the job below an init."""

    def __init__(self, init: int, scratch: str, wrapper: int) -> None:
        """Raises ProcessLookupError when init has gone."""
        try:
            starter = psutil.Process(wrapper).ppid()
            begun = started(psutil.Process(init))
            marks = Marks(os.getuid(), begun, scratch, os.environ, starter)
            self._view = view_of(init, marks, starter)
        except (psutil.Error, OSError):
            raise ProcessLookupError from None
        self._processes: list[psutil.Process] = []

    def readings(self) -> tuple[list[Reading], tuple[float, float]]:
        """All processes, and the CPU seconds of those that init has waited for.

        Raises ProcessLookupError when init has gone.
        """
        try:
            self._processes = self._view.processes()
            found = list(self._readings())
            # Last: who is waited for meanwhile counts twice for a moment rather than not at all.
            init = self._view.init.cpu_times()
        except psutil.Error:
            raise ProcessLookupError from None
        return found, (init.children_user, init.children_system)

    def pss(self) -> int:
        """The proportional set sizes of the processes of the last look; bytes."""
        total = 0
        for process in self._processes:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def _readings(self) -> Iterator[Reading]:
        for process in self._processes:
            with suppress(psutil.Error, OSError):
                yield reading_of(process)


def reading_of(process: psutil.Process) -> Reading:
    """What a process has used by now. Raises psutil.Error, OSError."""
    with process.oneshot():
        times = process.cpu_times()
        cpu = (times.user, times.system, times.children_user, times.children_system)
        identity = (process.pid, started(process))
        return Reading(
            identity, cpu, process.num_threads(), process.memory_info().rss, _storage(process)
        )


def _storage(process: psutil.Process) -> tuple[int | None, int | None]:
    try:
        account = process.io_counters()
    except (psutil.Error, NotImplementedError, RuntimeError):
        return None, None  # another user's (set-uid), or CONFIG_TASK_IO_ACCOUNTING is off
    return account.read_bytes, account.write_bytes
