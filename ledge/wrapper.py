"""HTCondor's USER_JOB_WRAPPER: carries the plan out around one job.

HTCondor manual, "USER_JOB_WRAPPER": it runs as the job's user with the job's command as its
arguments; what it writes to $_CONDOR_WRAPPER_ERROR_FILE tells the starter that the wrapper, not
the job, failed, and sends the job back to the queue.

Start-up is a contract (tests/unit/test_startup.py): every job waits for what is imported here.
"""

from __future__ import annotations

import posix
from sys import stderr

from ledge.attributes import REPORTED, isolation_attributes, usage_attributes
from ledge.descriptors import hold_standard_streams
from ledge.errors import CommandError, IsolationError, LedgeError
from ledge.inheritance import Inheritance, hold_signals, inherited
from ledge.init import Launch
from ledge.isolation import prepare
from ledge.monitor import Ending, end_as, supervise
from ledge.plan import MAXIMUM_BYTES, Plan, read_plan
from ledge.publish.chirp import ChirpError, Starter, publish, read_starter
from ledge.settle import settle
from ledge.universe import left_alone
from ledge.usage import Usage

PLAN_FILE = "/etc/condor-ledge/plan.json"


def main() -> None:
    """Run the job of the command line; does not return."""
    mask = hold_signals()
    hold_standard_streams()
    try:
        inheritance = inherited(mask, from_starter=True)
        reason = left_alone(inheritance)
        if reason is None:
            _run_isolated(inheritance)
        else:
            _run_as_it_is(inheritance, reason)
    except LedgeError as error:
        _refuse(str(error))


def _run_isolated(inheritance: Inheritance) -> None:
    plan = _plan()
    scratch = inheritance.variable(b"_CONDOR_SCRATCH_DIR")
    starter = _starter(inheritance)
    try:
        if scratch is None:
            raise IsolationError("no _CONDOR_SCRATCH_DIR in the environment")
        launch = prepare(plan, inheritance, scratch)
        try:
            ending = supervise(launch)
        except IsolationError:
            if launch.leaf is not None:
                launch.leaf.remove()
            raise
    except IsolationError as error:
        if plan.on_failure != "run":
            raise
        _run_as_it_is(inheritance, str(error))
        return
    if ending.exec_errno is not None:
        _measure(launch, ending)
        raise _not_executed(inheritance, ending.exec_errno)
    try:
        usage = _measure(launch, ending)
        isolation = isolation_attributes(launch.namespaces)
        _publish(starter, {**usage_attributes(usage), **isolation})
    finally:
        # Whatever goes wrong with the figures, the job has ended as it has ended.
        end_as(ending.status)


def _measure(launch: Launch, ending: Ending) -> Usage:
    try:
        return settle(launch.leaf, ending)
    except OSError as error:
        usage = Usage("none")
        usage.unmeasured.append(f"cannot read the control group: {error.strerror}")
        return usage


def _not_executed(inheritance: Inheritance, errno: int) -> CommandError:
    command = inheritance.argv[0].decode("utf-8", "backslashreplace")
    return CommandError(
        f"Failed to execute '{command}': (errno={errno}: '{posix.strerror(errno)}')", errno
    )


def _run_as_it_is(inheritance: Inheritance, reason: str) -> None:
    """Become the job without any isolation, and let its ad say so."""
    if reason:
        _publish(_starter(inheritance), dict(isolation_attributes((), reason)))
    try:
        inheritance.execute()
    except OSError as error:
        raise _not_executed(inheritance, error.errno or 0) from None


def _plan() -> Plan:
    """The admin's plan, or the built-in one where there is none. Raises PlanError."""
    try:
        with open(PLAN_FILE, "rb", buffering=0) as file:
            return read_plan(file.read(MAXIMUM_BYTES + 1) or b"", PLAN_FILE)
    except FileNotFoundError:
        return Plan()
    except OSError as error:
        raise LedgeError(f"cannot read {PLAN_FILE}: {error.strerror}") from None


def _starter(inheritance: Inheritance) -> Starter | None:
    """Read where the starter listens, before the job could write something else there."""
    path = inheritance.variable(b"_CONDOR_CHIRP_CONFIG")
    try:
        return read_starter(path) if path else None
    except ChirpError:
        return None


def _publish(starter: Starter | None, attributes: dict[str, int | float | str]) -> None:
    """Report the attributes; a starter that does not take them must not cost the job anything."""
    if starter is None:
        return
    try:
        publish(starter, {REPORTED + name: value for name, value in attributes.items()})
    except ChirpError:
        pass  # the figures stay undefined, which is what they are


def _refuse(problem: str) -> None:
    """Tell the starter that the wrapper, not the job, failed; one line is all it takes."""
    prefix = b"_CONDOR_WRAPPER_ERROR_FILE"
    path = posix.environ.get(prefix)
    line = f"condor-ledge: {problem}\n"
    if path is None:
        stderr.write(line)
        posix._exit(1)
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(path, flags, 0o644)
    posix.write(fd, line.encode("utf-8", "backslashreplace"))
    posix._exit(1)
