"""The machine ad's attributes of condor-ledge, for startd: STARTD_CRON_LEDGE runs this each minute.

ledged has left in a file what this node can do (ledge/daemon/advertisement.py). That holds only as
long as it answers; nothing else is asked of it here. Where the wrapper does without ledged, what
it can do is tried here and now, by HTCondor's user.

HTCondor manual, "Startd Cron": a line "-" ends the ad, "- update:true" has the collector told now.
"""

from __future__ import annotations

import posix
import sys
from time import monotonic, sleep, time

from ledge.classads import literal
from ledge.client import SOCKET, Connection, UnavailableError

FILE = "machine_ad"
_PATIENCE_SECONDS = 5.0
# Started together with HTCondor, ledged is ready after startd asks for the first time.
_START_SECONDS = 15.0
_PAUSE_SECONDS = 0.5
# What has changed in the last two rounds the collector is told at once.
_NEW_SECONDS = 120.0


def main() -> None:
    """Print the ad. The argument: 1 with ledged, 0 without (LEDGE_DAEMON)."""
    text, is_news = _by_users() if sys.argv[1:] == ["0"] else by_ledged(SOCKET, _START_SECONDS)
    sys.stdout.write(text + ("- update:true\n" if is_news else "-\n"))


def by_ledged(socket: str, patience_seconds: float) -> tuple[str, bool]:
    """The lines of the ad, and whether they are news."""
    deadline = monotonic() + patience_seconds
    while True:
        try:
            return _told(socket)
        except FileNotFoundError:
            why = "ledged has not yet found out what this node can do"
        except (UnavailableError, OSError) as error:
            why = str(error)
        if monotonic() > deadline:
            return _nothing(why), True
        sleep(_PAUSE_SECONDS)


def _told(socket: str) -> tuple[str, bool]:
    """Raises UnavailableError, OSError."""
    Connection(socket, _PATIENCE_SECONDS).close()
    path = socket.rpartition("/")[0] + "/" + FILE
    with open(path, encoding="utf-8") as file:
        return file.read(), time() - posix.fstat(file.fileno()).st_mtime < _NEW_SECONDS


def _by_users() -> tuple[str, bool]:
    from ledge.preflight.abilities import find_abilities_of_users, machine_attributes

    attributes = machine_attributes(find_abilities_of_users())
    return "".join([f"{name} = {literal(value)}\n" for name, value in attributes.items()]), False


def _nothing(why: str) -> str:
    return f"HasLedge = false\nLedgeMissing = {literal(why)}\n"
