"""ledged's way in. condor_master starts it as root, or systemd does (packaging/systemd).

The launcher is started first, as a program of its own, before anything is imported or opened that a
job's process should not have come from. SIGHUP, which condor_reconfig sends, has the policy read
anew; SIGTERM and SIGQUIT end ledged, and no job notices.
"""

from __future__ import annotations

import _signal
import _socket
import posix
import sys

from ledge.errors import LedgeError

_LAUNCHER = "ledge_launcher"


def main() -> None:
    """Serve; does not return."""
    # condor_reconfig may come while we start, and ends who does not know the signal yet.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGHUP})
    posix.environ.clear()
    posix.umask(0o022)
    posix.chdir("/")
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    child = posix.fork()
    if child == 0:
        _start_launcher(theirs)
    posix.waitpid(child, 0)
    theirs.close()
    from ledge.daemon.service import serve
    from ledge.settings import tell_end

    try:
        serve(sys.argv[1:], ours)
    except Exception as error:  # the outermost edge: nobody else would tell
        tell_end("ledged", error)
        if not isinstance(error, LedgeError):
            raise
        sys.exit(1)


def _start_launcher(orders: _socket.socket) -> None:
    """Start the launcher as nobody's child.

    When ledged ends, condor_master kills what it knows to come from it by parentage (ProcFamily),
    and that must not be the init of every running job.
    """
    program = sys.argv[0].rpartition("/")[0] + "/" + _LAUNCHER
    try:
        posix.setsid()
        if posix.fork():
            posix._exit(0)
        posix.set_inheritable(orders.fileno(), True)
        posix.execve(program, [program, str(orders.fileno())], {})
    finally:
        posix._exit(1)
