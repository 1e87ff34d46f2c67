"""Starting a job without ledged: with what its user may do alone, or as root where we are root.

Where users may make user namespaces the job gets one, with its own uid and gid alone in it; what
that costs is in the README. Limits cannot be set this way: a user could lift them again.
"""

from __future__ import annotations

import posix

from ledge.errors import StepFailed
from ledge.job.inheritance import Inheritance
from ledge.job.init import Launch, start_init
from ledge.job.isolation import prepare
from ledge.plan.plan import Plan
from ledge.wrapper.monitor import Running, isolation_error

PLAN_FILE = "/etc/condor-ledge/plan.json"


def start(launch: Launch) -> Running:
    """Start the job.

    All signals are blocked on entry and stay so. Raises IsolationError if there can be no such
    namespaces.
    """
    hear, tell = posix.pipe()
    try:
        init = start_init(launch, hear, tell)
    except OSError as error:
        launch.discard()
        step = f"create the namespaces {', '.join(launch.namespaces)}"
        raise isolation_error(step, error.errno or 0) from None
    finally:
        posix.close(tell)
    return Running(launch, init, posix.pidfd_open(init), hear)


def start_job(plan: Plan, inheritance: Inheritance, scratch: bytes) -> tuple[Launch, Running]:
    """Start the job of the wrapper. Raises IsolationError."""
    launch = prepared(plan, inheritance, scratch)
    return launch, start(launch)


def start_confirmed(
    plan: Plan, inheritance: Inheritance, scratch: bytes
) -> tuple[Launch, Running]:
    """The same, and wait until the job is on its way. Raises IsolationError."""
    launch, running = start_job(plan, inheritance, scratch)
    # While init is at work, load what the end of the job will need.
    from ledge.wrapper import settle  # noqa: F401

    running.confirm()
    return launch, running


def bare(plan: Plan) -> Plan:
    """What is left of a plan where there is no isolation: the job is followed and accounted."""
    rest = Plan()
    rest.namespaces, rest.mounts, rest.cgroup = (), (), plan.cgroup
    return rest


def prepared(
    plan: Plan, inheritance: Inheritance, scratch: bytes, keep: tuple[bytes, ...] = ()
) -> Launch:
    """What isolation.prepare() gives. Raises IsolationError."""
    try:
        return prepare(plan, inheritance, scratch, keep)
    except StepFailed as failure:
        raise isolation_error(failure.step, failure.errno) from None


def node_plan() -> Plan:
    """The admin's plan, or the built-in one where there is none. Raises PlanError."""
    try:
        posix.stat(PLAN_FILE)
    except FileNotFoundError:
        return Plan()
    except OSError:
        pass  # there is one that cannot be reached: reading it says so
    from ledge.plan.document import load_plan  # 5 ms that only a plan from a file has to pay

    return load_plan(PLAN_FILE)
