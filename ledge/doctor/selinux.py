"""Whether SELinux has refused anything to condor-ledge: what the kernel's audit says of it."""

from __future__ import annotations

import os
import re

from ledge.doctor.node import Node
from ledge.doctor.report import Subject

_ENFORCE = "/sys/fs/selinux/enforce"
_AUDIT_LOG = "/var/log/audit/audit.log"
_TAIL_BYTES = 4 << 20
_DENIED = re.compile(
    r'avc: +denied +\{ (?P<what>[a-z_ ]+) \} .*?comm="(?P<who>ledge[a-z_-]*|job_wrapper[a-z_]*|'
    r'prepare_job[a-z_]*|machine_ad)"(?P<rest>.*)'
)


def selinux(node: Node, subject: Subject) -> None:
    """What was denied to our programs, by their names."""
    try:
        with open(_ENFORCE, "rb") as file:
            enforcing = file.read().strip() == b"1"
    except OSError:
        subject.summary = "not in use"
        return
    mode = "enforcing" if enforcing else "permissive"
    if not node.is_root:
        subject.untold = f"{mode}; needs root"
        return
    subject.summary = f"{mode}, nothing denied to condor-ledge"
    for who, what in denials(_tail(_AUDIT_LOG)).items():
        subject.warning(
            f"SELinux ({mode}) has denied {who}: {what}",
            "what it wanted to do fails" if enforcing else "enforcing, it will fail",
            f"ausearch -m avc -c {who} | audit2allow -M condor-ledge; look at it; semodule -i "
            "condor-ledge.pp",
        )


def denials(audit: str) -> dict[str, str]:
    """By the name of a program of ours, the last that it was denied."""
    found = {}
    for line in audit.splitlines():
        denied = _DENIED.search(line)
        if denied:
            words = [word for word in denied["rest"].split() if word.startswith(("name=", "t"))]
            found[denied["who"]] = " ".join([denied["what"], *words])
    return found


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
