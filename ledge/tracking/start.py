"""The tracker as the wrapper knows it."""

from __future__ import annotations

import _signal
import posix
import select
import sys

from ledge.tracking.seen import LARGEST_TEXT, Seen, parse

_CODE = b"import sys; sys.path.insert(0, sys.argv[1]); import ledge.tracking.process as p; p.main()"
_KILLED_SECONDS = 1.0
# All that it needs: a job's variables could be meant for another Python.
_PREFIX = b"_CONDOR_"


class Tracker:
    """A tracker of the job below an init. `fd` is what it writes to and what is to be kept open."""

    __slots__ = ("fd", "pid", "problem")

    def __init__(self, init: int, scratch: bytes) -> None:
        """Start it; one that cannot be started has seen nothing, and says why."""
        self.fd = self.pid = -1
        self.problem = ""
        try:
            self.fd = posix.memfd_create("ledge_tracker", posix.MFD_CLOEXEC)
            self._start(init, scratch)
        except OSError as error:
            self.problem = f"the tracker could not be started: {error.strerror}"

    def stop(self) -> Seen:
        """End it; what it has seen."""
        if self.pid > 0:
            self._kill()
        seen = Seen()
        try:
            if self.fd >= 0:
                seen = parse(posix.pread(self.fd, LARGEST_TEXT, 0))
                posix.close(self.fd)
        except (OSError, ValueError) as error:
            self.problem = f"the tracker's words make no sense: {error}"
        seen.problem = seen.problem or self.problem
        return seen

    def _start(self, init: int, scratch: bytes) -> None:
        home = __file__.rpartition("/ledge/")[0]
        options = (b"%d" % init, b"%d" % self.fd, b"%d" % posix.getpid(), scratch)
        argv = [sys.executable.encode(), b"-I", b"-c", _CODE, home.encode() or b".", *options]
        environ = {k: v for k, v in posix.environ.items() if k.startswith(_PREFIX)}
        posix.set_inheritable(self.fd, True)
        try:
            # Signals stay blocked: they are the wrapper's to forward.
            self.pid = posix.posix_spawn(sys.executable, argv, environ)
        finally:
            posix.set_inheritable(self.fd, False)

    def _kill(self) -> None:
        """It may be in the midst of a reading, but not for long."""
        posix.kill(self.pid, _signal.SIGKILL)
        pidfd = posix.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_KILLED_SECONDS * 1000)
        posix.close(pidfd)
        posix.waitpid(self.pid, posix.WNOHANG)
