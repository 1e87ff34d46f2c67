"""ledged's way in. condor_master starts it as root, or systemd does (packaging/systemd).

The launcher is started first, as a program of its own, before anything is imported or opened that a
job's process should not have come from. SIGHUP, which condor_reconfig sends, has the policy read
anew; SIGTERM and SIGQUIT end ledged, and no job notices.
"""

from __future__ import annotations

import _socket
import posix
import sys

from ledge.errors import LedgeError

_LAUNCHER = "ledge_launcher"


def main() -> None:
    """Serve; does not return."""
    posix.environ.clear()
    posix.umask(0o022)
    posix.chdir("/")
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    launcher = posix.fork()
    if launcher == 0:
        _become_launcher(theirs)
    theirs.close()
    from ledge.daemon.service import serve

    try:
        serve(sys.argv[1:], ours, launcher)
    except LedgeError as error:
        sys.stderr.write(f"ledged: {error}\n")
        sys.exit(1)


def _become_launcher(orders: _socket.socket) -> None:
    program = sys.argv[0].rpartition("/")[0] + "/" + _LAUNCHER
    try:
        posix.set_inheritable(orders.fileno(), True)
        posix.execve(program, [program, str(orders.fileno())], {})
    finally:
        posix._exit(1)
