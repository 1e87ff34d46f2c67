"""The errors of condor-ledge, divided by who has to act.

    LedgeError
     +- PlanError         the admin: a plan is none, one from a file or what the policy makes
     +- PolicyError       the admin: the policy is wrong (ledge/policy/errors.py)
     +- IsolationError    the admin: the kernel or the node refused a step of the plan
     +- NotEnforced       the admin: a limit cannot be had on this node, or not now
     +- NoCpusError       the admin: no CPUs are left for one job alone (ledge/limits/cpusets.py)
     +- NoDiskError       the admin: no disk takes a limit (ledge/kernel/block_devices.py)
     +- StartError        the admin: ledged cannot be started (ledge/daemon/service.py)
     +- SettingsError     the admin: a setting of HTCondor's configuration (ledge/settings.py)
     +- UnavailableError  the admin: ledged does not answer (ledge/client.py)
     +- PeerError         nobody: a process asks for what is not its to ask (ledge/daemon/peer.py)
     +- CommandError      the user: the job's own command cannot be executed

Each carries one line for people: what went wrong and, after a semicolon, what to do about it.
The wrapper's error file, `condor_ledge` and the attributes in the job ad all use that line.
"""

from __future__ import annotations

from errno import ENOENT

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from collections.abc import Callable


class LedgeError(Exception):
    """What went wrong and the remedy, as one line (HTCondor's logs keep one line an error).

    `status` is the exit status of a command that ends because of it, as env(1) has them.
    """

    status = 125

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem, remedy)

    def __str__(self) -> str:
        line = f"{self.problem}; {self.remedy}" if self.remedy else self.problem
        return " ".join(line.split())


class PlanError(LedgeError):
    """A plan that is not one: not JSON, too large, an unknown key, a value of the wrong kind."""


class IsolationError(LedgeError):
    """A namespace, mount or control group that the plan demands cannot be had here."""

    def __init__(self, problem: str, remedy: str = "", errno: int = 0) -> None:
        super().__init__(problem, remedy)
        self.errno = errno


class NotEnforced(LedgeError):
    """A limit that cannot be had here and now."""


class CommandError(LedgeError):
    """execve(2) refused the job's command: `errno` says why, as without condor-ledge."""

    def __init__(self, problem: str, errno: int) -> None:
        super().__init__(problem)
        self.errno = errno
        self.status = 127 if errno == ENOENT else 126


class StepFailed(Exception):  # what happened, for whoever makes an error of it
    """A step of the isolation, worded as the end of "cannot …", and the errno it failed with."""

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(step, errno)
        self.step = step
        self.errno = errno


def take_step(step: str, action: Callable[..., None], *arguments: int) -> None:
    """Carry it out; raises StepFailed for an OSError."""
    try:
        action(*arguments)
    except OSError as error:
        raise StepFailed(step, error.errno or 0) from None
