"""What the kernel lets root and users do for jobs: tried, each for itself."""

from __future__ import annotations

import os

from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.errors import LedgeError
from ledge.limits.remedies import PRESSURE
from ledge.plan.plan import NAMESPACES
from ledge.preflight.abilities import file_system_of
from ledge.preflight.groups import figures_of, jobs_group, limits_of
from ledge.preflight.namespaces import NOBODY, isolation
from ledge.preflight.network import attempt_counting

_OLDEST = (5, 14)
_NEEDS_ROOT = "needs root"
_PRESSURE_FILES = ("/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io")


def kernel(node: Node, subject: Subject) -> None:
    """Its version."""
    release = os.uname().release
    major, minor = (int(word) for word in release.split("-")[0].split(".")[:2])
    if (major, minor) < _OLDEST:
        subject.fault(
            f"Linux {release} is older than {_OLDEST[0]}.{_OLDEST[1]}",
            "jobs cannot be ended with all that they left behind (cgroup.kill)",
            "a newer kernel, as RHEL 9's, and a reboot",
        )
    subject.summary = f"Linux {release}"


def namespaces(node: Node, subject: Subject) -> None:
    """That root can make a job's namespaces, and mount in them."""
    if not node.is_root:
        subject.untold = _NEEDS_ROOT
        return
    can, failure = isolation(0)
    subject.summary = ", ".join(can)
    if failure is not None:
        subject.fault(
            failure.problem,
            f"jobs get only {', '.join(can) or 'none'} of {', '.join(NAMESPACES)}; those whose "
            "plan wants more go back to the queue",
            failure.remedy or "on_failure: run in the plan lets jobs run without it",
        )


def user_namespaces(node: Node, subject: Subject) -> None:
    """That a user can, without root: what is left where ledged does not answer."""
    _, failure = isolation(NOBODY if node.is_root else os.geteuid())
    if failure is None:
        subject.summary = "a user can make them, and mount in them"
        return
    cost = "jobs that bring their own containers (Apptainer without set-uid, Podman) fail"
    if node.with_ledged:
        cost += "; without_daemon: run in the policy cannot keep jobs apart"
        subject.warning(failure.problem, cost, failure.remedy)
    else:
        subject.fault(failure.problem, f"no job is kept apart; {cost}", failure.remedy)


def control_groups(node: Node, subject: Subject) -> None:
    """That there are groups of version 2, delegated to HTCondor, with limits that can be set."""
    if not node.is_root:
        subject.untold = _NEEDS_ROOT
        return
    cost = "no job is started: a job's own group is what ledged knows it by"
    try:
        with jobs_group(node.starter.get("BASE_CGROUP")) as group:
            limits, lacking = limits_of(group, file_system_of(node.starter.get("EXECUTE", "/")))
            unmeasured = figures_of(group)[1]
            _traffic(subject, attempt_counting(group))
    except LedgeError as error:
        subject.fault(error.problem, cost, error.remedy)
        return
    except OSError as error:
        subject.fault(f"{error.filename or ''} {error.strerror}", cost, "the kernel's log")
        return
    subject.summary = f"version 2, delegated; limits: {', '.join(limits)}"
    for name, reason in lacking.items():
        problem, _, remedy = reason.partition("; ")
        cost = f"jobs for which the policy sets {name.replace('.', '_')} are held"
        subject.warning(f"{name}: {problem}", cost, remedy or "take it out of the policy")
    unmeasured.pop("pressure", None)  # a subject of its own
    for name, reason in unmeasured.items():
        problem, _, remedy = reason.partition("; ")
        subject.warning(f"{name}: {problem}", "these figures are missing from job ads", remedy)


def _traffic(subject: Subject, failure: LedgeError | None) -> None:
    if failure is not None:
        cost = "the figures of the network are missing from job ads (Unmeasured says so), and jobs "
        cost += "reach each other at loopback addresses (NotEnforced)"
        subject.warning(f"eBPF: {failure.problem}", cost, failure.remedy)


def pressure(node: Node, subject: Subject) -> None:
    """That the kernel accounts for pressure: that its files can be read."""
    for path in _PRESSURE_FILES:
        try:
            with open(path, "rb") as file:
                file.read()
        except OSError as error:
            subject.warning(
                f"{path}: {error.strerror}: the kernel does not account for pressure (PSI)",
                "ChirpLedgePressure... are missing from job ads",
                f"{PRESSURE} (grubby --update-kernel=ALL --args=psi=1)",
            )
            return
    subject.summary = "accounted for"
