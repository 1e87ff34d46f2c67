"""Whether HTCondor is in a PID namespace of its own, and whether it is where the admin wants it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.errors import LedgeError
from ledge.kernel.pid_namespaces import pids
from ledge.preflight.groups import htcondors_master

DROP_INS = Path("/etc/systemd/system/condor.service.d")
# What private-pids.conf and private-pids-before-257.conf have (share/condor-ledge/systemd).
_WANTED = re.compile(r"(?m)^PrivatePIDs=(yes|true|on|1)\s*$|^ExecStart=\S*/private_pids ")


def pid_namespace(node: Node, subject: Subject) -> None:
    """That a drop-in which is there is in force."""
    del node  # it is systemd's configuration, and the kernel's word
    try:
        is_own = _is_own(htcondors_master())
    except (LedgeError, OSError):
        subject.untold = "condor_master is not running"
        return
    subject.summary = "HTCondor's own" if is_own else "the node's: HTCondor sees all its processes"
    wanted = sorted(filter(_is_wanted, DROP_INS.glob("*.conf")))
    if wanted and not is_own:
        subject.warning(
            f"condor_master sees all of the node's processes, whatever {wanted[0]} says",
            "what the jobs' own PID namespaces leave open (docs/admins.md) is open",
            "systemctl daemon-reload, systemctl restart condor; before systemd 257 it takes "
            "private-pids-before-257.conf",
        )


def _is_own(master: int) -> bool:
    """Whether condor_master is the first process of its namespace, seen from there or outside."""
    proc = os.open(f"/proc/{master}", os.O_PATH | os.O_CLOEXEC)
    try:
        return pids(proc)[-1] == 1
    finally:
        os.close(proc)


def _is_wanted(path: Path) -> bool:
    try:
        return _WANTED.search(path.read_text(errors="replace")) is not None
    except OSError:
        return False  # a link to what has been removed
