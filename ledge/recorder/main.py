"""The recorder's way in. condor_master starts it, as HTCondor's user (LEDGE_RECORDER_USERID).

SIGHUP, which condor_reconfig sends, has it read HTCondor's configuration and the tokens anew; a
token that is put there is found within a minute without. It may be killed at any moment: what is
not delivered stays in the spool.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import time
from functools import partial
from types import FrameType

from ledge import __version__
from ledge.errors import LedgeError
from ledge.kernel.inotify import take_events, watch_directory
from ledge.log import Log
from ledge.recorder.bindings import serve
from ledge.recorder.recorder import Recorder
from ledge.recorder.spool import Spool
from ledge.recorder.tokens import token_problem, versions
from ledge.recorder.worker import Worker
from ledge.settings import Parser, size_bytes, tell_end

SPOOL = "/var/lib/condor-ledge/spool"


class RecorderError(LedgeError):
    """The recorder cannot be started here."""


def main() -> None:
    """Record until a signal ends it; does not return."""
    try:
        run(_parser().parse_args())
    except Exception as error:  # the outermost edge: nobody else would tell
        tell_end("ledge_recorder", error)
        if not isinstance(error, LedgeError):
            raise
        sys.exit(1)


def run(options: argparse.Namespace) -> None:
    """Deliver what comes into the spool. Raises RecorderError."""
    if os.geteuid() == 0:
        raise RecorderError("it must not run as root", "LEDGE_RECORDER_USERID names its user")
    try:
        log = Log(options.log, size_bytes(options.max_log))
        spool = Spool(options.spool)
        arrivals = watch_directory(os.fsencode(options.spool))
    except OSError as error:
        raise RecorderError(
            f"{error.filename or options.spool}: {error.strerror}",
            "ledged makes the spool, if LEDGE_RECORD was True when it was started",
        ) from None
    worker = Worker(partial(serve, tokens=options.tokens))
    recorder = Recorder(
        spool, worker, log.write, lambda: token_problem(options.tokens, time.time())
    )
    tokens = versions(options.tokens)
    signals = _SignalPipe()
    log.write(f"ledge_recorder {__version__} started, process {os.getpid()}")
    while True:
        pause = recorder.work(time.monotonic())
        ready, _, _ = select.select([arrivals, signals.hear.fileno()], [], [], pause)
        if arrivals in ready:
            take_events(arrivals)
        told, before, tokens = signals.taken(), tokens, versions(options.tokens)
        if told:
            log.reopen()
        if told or tokens != before:
            recorder.begin_anew()


class _SignalPipe:
    """SIGHUP as something to wait for."""

    def __init__(self) -> None:
        self.hear, self._tell = socket.socketpair()
        self.hear.setblocking(False)
        self._tell.setblocking(False)
        signal.set_wakeup_fd(self._tell.fileno())
        signal.signal(signal.SIGHUP, _ignore)

    def taken(self) -> bool:
        """Whether one has come since."""
        try:
            return bool(self.hear.recv(4096))
        except BlockingIOError:
            return False


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """The pipe tells."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ledge_recorder", description=__doc__)
    parser.add_argument("--spool", metavar="DIRECTORY", default=SPOOL)
    parser.add_argument("--log", metavar="FILE", help="default: standard error")
    parser.add_argument("--max-log", metavar="BYTES", nargs="+", default=["10", "Mb"])
    parser.add_argument("--tokens", metavar="DIRECTORY", help="default: HTCondor's choice")
    return parser
