"""What this node can do, for its machine ad: tried at the start, on SIGHUP, and now and then.

ledged proper has given up what it takes to try it. So a process that was made before, and does
nothing else, tries it and says what it found; ledged writes that where whoever advertises it finds
it (ledge/machine_ad.py). Jobs wait for none of this.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket

from ledge.classads import literal
from ledge.daemon.decider import Decider
from ledge.daemon.server import Server
from ledge.daemon.traffic import NodeTraffic
from ledge.kernel import syscalls
from ledge.kernel.descriptors import close_all_but
from ledge.log import Log
from ledge.machine_ad import FILE
from ledge.preflight.abilities import (
    GROUPS,
    NETWORK,
    Abilities,
    find_abilities,
    machine_attributes,
)

_INTERVAL_SECONDS = 600.0
_INTERVAL_WITH_GAPS_SECONDS = 60.0
_LONGEST = 1 << 17


class Advertisement:
    """The machine attributes, in a file in `directory`; to be made before rights are given up."""

    def __init__(self, base_cgroup: str, execute: str, directory: str, log: Log) -> None:
        self._path = os.path.join(directory, FILE)
        self._log = log
        self._abilities: Abilities | None = None
        self._written = ""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            _try_again_and_again(theirs, base_cgroup, execute)
        theirs.close()
        self.withdraw()

    def attach(self, server: Server, decider: Decider, traffic: NodeTraffic) -> None:
        """Become part of the server's loop, and begin: what jobs wait for was started first."""
        self._decider = decider
        self._traffic = traffic
        self._server = server
        server.watch(self._ours.fileno(), self._receive)
        self.renew()

    def renew(self) -> None:
        """Have all tried again; the policy may be another by now."""
        with contextlib.suppress(OSError):
            self._ours.send(b"again", socket.MSG_DONTWAIT)
        self._write()

    def withdraw(self) -> None:
        """Take the file away."""
        self._written = ""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _receive(self) -> None:
        told = self._ours.recv(_LONGEST)
        if not told:
            self._log.write("the process that tries what this node can do has ended")
            self._server.forget(self._ours.fileno())
            return
        isolation, accounting, limits, missing = json.loads(told)
        self._abilities = Abilities(tuple(isolation), tuple(accounting), tuple(limits), missing)
        self._write()

    def _write(self) -> None:
        if self._abilities is None:
            return
        attributes = machine_attributes(self._known(self._abilities), self._refusal())
        text = "".join([f"{name} = {literal(value)}\n" for name, value in attributes.items()])
        if text == self._written:
            return  # the time of the file is that of the last change
        self._log.write(f"advertised: {'; '.join(text.splitlines())}")
        try:
            with open(self._path + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(self._path + ".new", self._path)
            self._written = text
        except OSError as error:
            self._log.write(f"{self._path}: {error.strerror}; this node is not advertised")
            self.withdraw()

    def _known(self, abilities: Abilities) -> Abilities:
        """With what ledged knows better: whether its own counters work."""
        problem = self._traffic.problem
        if not problem:
            return abilities
        accounting = tuple(name for name in abilities.accounting if name != NETWORK)
        missing = {**abilities.missing, NETWORK: problem}
        return abilities._replace(accounting=accounting, missing=missing)

    def _refusal(self) -> str:
        """Why every job is refused, if it is."""
        return self._decider.problem if self._decider.pid is None else ""


def _try_again_and_again(orders: socket.socket, base_cgroup: str, execute: str) -> None:
    """Does not return. Ends when ledged has."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        syscalls.prctl(syscalls.PR_SET_NAME, b"ledge_preflight\0")
        # The lock of ledged above all: the next one must not find it held.
        close_all_but((0, 1, 2, orders.fileno()))
        pause = None
        while not select.select([orders], [], [], pause)[0] or orders.recv(_LONGEST):
            pause = _INTERVAL_WITH_GAPS_SECONDS
            try:
                abilities = find_abilities(base_cgroup, execute)
            except OSError:
                continue  # no room for a process, on a node that is too busy: what was found holds
            orders.send(json.dumps(abilities).encode())
            if GROUPS not in abilities.missing:  # else HTCondor may be about to start
                pause = _INTERVAL_SECONDS
    except OSError:
        pass  # ledged has gone
    finally:
        os._exit(0)
