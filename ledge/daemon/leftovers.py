"""What is left in the slices of jobs that were killed together with their starter.

HTCondor leaves such a slice until the slot's next job. In it is what condor-ledge has made there:
the job's own group, if ledged was down in that moment, and the programs that counted its traffic.
A slice in which no process lives is nobody's, so both are taken away; the slice is HTCondor's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress

from ledge.condor_versions import is_jobs_group
from ledge.daemon.peer import PeerError, mount_point
from ledge.daemon.running_job import RunningJob, is_group_name
from ledge.daemon.server import Server
from ledge.daemon.settlement import Settlement
from ledge.daemon.traffic import NodeTraffic
from ledge.kernel.cgroup2 import Cgroup, own_path
from ledge.log import Log
from ledge.preflight.attempt import PreflightError
from ledge.preflight.groups import htcondors_master

INTERVAL_SECONDS = 30.0


class Leftovers:
    """Where jobs' slices are, and what is taken out of them.

    `running` are the jobs that ledged looks after, by the identity of the slice.
    """

    def __init__(
        self, traffic: NodeTraffic, log: Log, running: Mapping[tuple[int, int], RunningJob]
    ) -> None:
        self.traffic = traffic
        self.log = log
        self.running = running
        self._above: set[bytes] = set()  # the groups that slices are in
        self._empty: set[tuple[int, int]] = set()  # at the last round

    def attach(self, server: Server) -> None:
        """Become part of the server's loop."""
        self.server = server
        server.later(INTERVAL_SECONDS, self._round)

    def begin(self, base: str) -> None:
        """What an earlier ledged could not take away; `base` is BASE_CGROUP.

        Programs of an earlier ledged's are taken away with CAP_SYS_ADMIN alone. No job runs yet
        that ledged knows.
        """
        with suppress(PreflightError, OSError):  # HTCondor does not run: there are no slices yet
            with open(f"/proc/{htcondors_master()}/cgroup", "rb") as groups:
                names = [name for name in (own_path(groups.read()) or b"").split(b"/") if name]
            # HTCondor makes it below the master's group, or below one above that.
            for depth in range(len(names) + 1) if base else ():
                self._above.add(b"/" + b"/".join([*names[:depth], os.fsencode(base)]))
        self._look(at_once=True)

    def _round(self) -> None:
        self.server.later(INTERVAL_SECONDS, self._round)
        for running in list(self.running.values())[:1]:  # they are all in the same
            with suppress(OSError):  # its wrapper has just gone
                self._above.add(running.cgroup().rpartition(b"/")[0].rpartition(b"/")[0])
        self._look()

    def _look(self, at_once: bool = False) -> None:
        try:
            self._sweep(at_once)
        except PeerError:
            pass  # no cgroup2 on this node
        except OSError as error:
            self.log.write(f"what killed jobs have left stays where it is: {error.strerror}")

    def _sweep(self, at_once: bool) -> None:
        """What has been empty at the last round, too: of a job that just ended figures are read."""
        mounted = mount_point()
        empty = set()
        for slice_, name in _slices(mounted + above for above in self._above):
            with suppress(FileNotFoundError):
                status = os.fstat(slice_.fd)
                identity = status.st_dev, status.st_ino
                if identity in self.running or slice_.populated():
                    continue
                empty.add(identity)
                if at_once or identity in self._empty:
                    self._clear(slice_, name)
        self._empty = empty

    def _clear(self, slice_: Cgroup, name: bytes) -> None:
        groups = [one for one in map(os.fsencode, os.listdir(slice_.fd)) if is_group_name(one)]
        for group in groups:
            with closing(Settlement(slice_, group)) as settlement:
                settlement.remove()
        self.traffic.end(slice_)
        if groups:
            self.log.write(f"removed from {name.decode()}: {b', '.join(groups).decode()}")


def _slices(paths: Iterable[bytes]) -> Iterator[tuple[Cgroup, bytes]]:
    """The slices in these groups, and their names; each is closed afterwards."""
    for path in paths:
        with suppress(FileNotFoundError), closing(Cgroup.open(path)) as above:
            for name in map(os.fsencode, os.listdir(above.fd)):
                # HTCondor may be about to remove it and to make it anew; this stays the one it is.
                with suppress(FileNotFoundError, NotADirectoryError):
                    if is_jobs_group(name):
                        with closing(Cgroup.open(name, above.fd)) as slice_:
                            yield slice_, name
