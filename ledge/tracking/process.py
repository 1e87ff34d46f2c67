"""The tracker: looks at a job's processes, as often as it may cost, until it is killed.

Its arguments: the PID of the job's init, a descriptor to write to, the wrapper's PID, and the
scratch directory, empty if there is none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ledge.kernel import syscalls
from ledge.tracking.seen import Seen

if TYPE_CHECKING:
    from ledge.tracking.looks import Looks

# What a look costs is at most this part of one CPU.
BUDGET = 0.01
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 20.0
# The kernel walks all page tables for it, and holds up whoever maps memory meanwhile.
MOST_PSS_SECONDS = 0.02
_PSS_SECONDS_PER_BYTE = 20e-3 / (1 << 30)  # until it has been measured
_PSS_GROWTH = 1.02
_SIGKILL = 9


def main() -> None:
    """Track until killed, or until there is nothing to track; does not return."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
    syscalls.prctl(syscalls.PR_SET_NAME, b"ledge_tracker\0")
    init, fd, wrapper, scratch = sys.argv[-4:]
    seen = Seen()
    try:
        # Here, for it may be missing, and the wrapper is to hear of it.
        from ledge.tracking.looks import Looks

        if os.getppid() == int(wrapper):
            _track(Looks(int(init), scratch, int(wrapper)), seen, int(fd))
    except ImportError as error:
        seen.problem = f"python3-psutil cannot be had ({error})"
        tell(int(fd), seen)
    except ProcessLookupError:
        pass  # init has gone, and the wrapper knows
    sys.exit()


def _track(looks: Looks, seen: Seen, fd: int) -> None:
    """Raises ProcessLookupError when init has gone."""
    shares = Shares()
    last: float | None = None
    while True:
        now = time.monotonic()
        began = time.process_time()
        rss = seen.add(*looks.readings())
        if shares.wanted(rss):
            shares.measure(looks.pss, rss, seen)
        seen.pss_problem = shares.problem
        if last is not None:
            seen.note_pause(now - last)
        last = now
        tell(fd, seen)
        time.sleep(pause(time.process_time() - began))


def pause(cost_seconds: float) -> float:
    """The pause after a look that took so much CPU time."""
    return min(max(cost_seconds / BUDGET, SHORTEST_SECONDS), LONGEST_SECONDS)


def tell(fd: int, seen: Seen) -> None:
    """Leave what was seen so far for the wrapper."""
    text = seen.text()
    os.pwrite(fd, text, 0)
    os.truncate(fd, len(text))


class Shares:
    """When to look how much memory the processes share: at a new peak, and while it is cheap."""

    def __init__(self) -> None:
        self.rate = _PSS_SECONDS_PER_BYTE
        self.highest = 0
        self.problem = ""

    def wanted(self, rss: int) -> bool:
        """Whether to look now, with so many bytes of RSS."""
        if rss <= self.highest * _PSS_GROWTH:
            return False
        if rss * self.rate > MOST_PSS_SECONDS:
            self.problem = "too much memory to look who shares it without slowing the job"
            return False
        return True

    def measure(self, pss: Callable[[], int], rss: int, seen: Seen) -> None:
        """Look, and learn what it costs."""
        began = time.process_time()
        seen.note_pss(pss())
        self.highest = rss
        # Small jobs pay for the calls, not for the pages.
        self.rate = max((time.process_time() - began) / max(rss, 1 << 28), 1e-12)
