"""An operation that is only tried: in a process of its own, which is killed after a while."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Callable

from ledge.errors import LedgeError

_SECONDS = 30.0
_LONGEST = 1 << 16


class PreflightError(LedgeError):
    """This node cannot do something that condor-ledge offers."""


def attempt(operation: Callable[[int], None], seconds: float = _SECONDS) -> LedgeError | None:
    """Why the operation failed, None if it did not; it is given a descriptor to be kept open.

    Raises OSError if there is no room for another process: that says nothing of the operation.
    """
    hear, tell = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(hear)
        os.close(tell)
        raise
    if pid == 0:
        _carry_out(operation, tell)
    os.close(tell)
    try:
        told = _heard(hear, seconds)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(hear)
    if told is None:
        problem = f"there was no end of it within {seconds:.0f} s"
        return PreflightError(problem, "the log of the kernel may say more")
    try:
        problem, remedy = json.loads(told)
    except ValueError:
        return PreflightError("the process that tried it died", "the log of the kernel may say why")
    return PreflightError(problem, remedy) if problem else None


def _carry_out(operation: Callable[[int], None], tell: int) -> None:
    """Does not return: whatever went wrong, a copy of the caller must never run on in here."""
    told = b""  # a mistake of ours
    try:
        operation(tell)
        told = json.dumps(["", ""]).encode()
    except LedgeError as error:
        told = json.dumps([error.problem, error.remedy]).encode()
    except OSError as error:
        told = json.dumps([f"{error.filename or ''} {error.strerror}".strip(), ""]).encode()
    finally:
        os.write(tell, told)
        os._exit(0)


def _heard(hear: int, seconds: float) -> bytes | None:
    """All that was written until the end, or None."""
    poll = select.poll()
    poll.register(hear, select.POLLIN)
    deadline = time.monotonic() + seconds
    heard = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(hear, _LONGEST)
        if not data:
            return heard
        heard += data
    return None
