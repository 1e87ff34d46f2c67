"""What all checks ask for: what this machine is in the pool, and who its ledged is."""

from __future__ import annotations

import json
import os
from functools import cached_property

from ledge.client import SOCKET, Connection, UnavailableError, choice_without_daemon
from ledge.doctor.configuration import Configuration, read_configuration

_WITHOUT = {
    "run": "jobs run with what their users may do alone, without the policy's limits",
    "requeue": "every job that starts waits for 30 s and goes back to the queue",
    "hold": "every job that starts waits for 30 s and is held",
}


class Node:
    """This machine. Raises ConfigurationError when it is asked for a configuration."""

    def __init__(self, socket: str = SOCKET) -> None:
        self.socket = socket
        self.directory = os.path.dirname(socket)
        self.is_root = os.geteuid() == 0

    @cached_property
    def starter(self) -> Configuration:
        """What the starter reads, and with it the startd and master, when it begins."""
        return read_configuration("STARTER")

    @cached_property
    def shadow(self) -> Configuration:
        """What the shadow reads."""
        return read_configuration("SHADOW")

    @cached_property
    def schedd(self) -> Configuration:
        """What the schedd reads."""
        return read_configuration("SCHEDD")

    @property
    def executes(self) -> bool:
        """Whether jobs run here."""
        return "STARTD" in self.starter.words("DAEMON_LIST")

    @property
    def submits(self) -> bool:
        """Whether jobs are queued here."""
        return "SCHEDD" in self.starter.words("DAEMON_LIST")

    @property
    def enabled(self) -> bool:
        """Whether condor-ledge is switched on."""
        return self.starter.holds("LEDGE_ENABLED")

    @property
    def with_ledged(self) -> bool:
        """Whether jobs are ledged's to start."""
        return self.starter.holds("LEDGE_DAEMON")

    @cached_property
    def unavailable(self) -> UnavailableError | None:
        """Why ledged does not answer; None if it does."""
        try:
            Connection(self.socket, patience_seconds=5.0).close()
        except UnavailableError as error:
            return error
        return None

    @cached_property
    def status(self) -> dict[str, object]:
        """What ledged says of itself, to root; empty where it says nothing."""
        if not self.is_root or self.unavailable:
            return {}
        try:
            connection = Connection(self.socket, patience_seconds=5.0)
            answer = connection.request(b"status")
            connection.close()
        except UnavailableError:
            return {}
        return dict(json.loads(answer.body)) if answer.status == b"done" else {}

    @cached_property
    def advertised(self) -> dict[str, str]:
        """The lines of the machine ad that ledged has left; empty if there are none."""
        try:
            with open(os.path.join(self.directory, "machine_ad"), encoding="utf-8") as file:
                lines = [line.partition(" = ") for line in file.read().splitlines()]
        except OSError:
            return {}
        return {name: value.strip('"') for name, _, value in lines}

    @cached_property
    def ledged_pid(self) -> int | None:
        """Who holds the lock of ledged; None if nobody."""
        try:
            status = os.stat(self.directory)
            with open("/proc/locks", encoding="ascii") as file:
                lines = [line.split() for line in file]
        except OSError:
            return None
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        held = [int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == device]
        return held[0] if held else None

    @property
    def how_to_start_anew(self) -> str:
        """How ledged is started anew; no job notices."""
        pid = self.ledged_pid
        if pid is None:
            return "condor_on -daemon ledged"
        if b"ledged.service" in _read(f"/proc/{pid}/cgroup"):
            return "systemctl restart ledged (running jobs do not notice)"
        return f"kill {pid} (condor_master starts another; running jobs do not notice)"

    @property
    def cost_without_ledged(self) -> str:
        """What becomes of jobs while ledged does not answer."""
        return _WITHOUT.get(choice_without_daemon(), _WITHOUT["hold"])


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
