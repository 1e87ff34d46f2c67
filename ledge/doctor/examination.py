"""The checks in their order: what others depend on comes first."""

from __future__ import annotations

from typing import Callable

from ledge.doctor import disks, htcondor, kernel, pid_namespace, selinux, service
from ledge.doctor.configuration import ConfigurationError
from ledge.doctor.node import Node
from ledge.doctor.report import Subject

Check = Callable[[Node, Subject], None]

_ALWAYS: dict[str, Check] = {"HTCondor": htcondor.htcondor}
_EXECUTE_NODE: dict[str, Check] = {
    "configuration": htcondor.configuration,
    "chirp (starter)": htcondor.chirp_of_starter,
    "kernel": kernel.kernel,
    "user namespaces": kernel.user_namespaces,
    "pressure": kernel.pressure,
    "disks": disks.disks,
    "SELinux": selinux.selinux,
    "PID namespace": pid_namespace.pid_namespace,
}
_WITH_LEDGED: dict[str, Check] = {
    "ledged": service.ledged,
    "policy": service.policy,
    "namespaces": kernel.namespaces,
    "control groups": kernel.control_groups,
    "advertised": htcondor.advertising,
    "clock": service.clock,
}
_ACCESS_POINT: dict[str, Check] = {"chirp (shadow)": htcondor.chirp_of_shadow}


def examine(node: Node) -> list[Subject]:
    """All subjects that concern this machine, examined."""
    subjects = []
    try:
        checks = dict(_ALWAYS)
        if node.executes:
            checks.update(_EXECUTE_NODE)
        if node.executes and node.enabled and node.with_ledged:
            checks.update(_WITH_LEDGED)
        if node.submits:
            checks.update(_ACCESS_POINT)
        for name, check in checks.items():
            subject = Subject(name)
            subjects.append(subject)
            check(node, subject)
    except ConfigurationError as error:
        subject = Subject("HTCondor")
        cost = "nothing else can be told"
        subject.fault(error.problem, cost, error.remedy)
        subjects.append(subject)
    return subjects
