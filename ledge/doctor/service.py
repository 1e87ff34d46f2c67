"""ledged: that it answers, that it is the one that is installed, its policy, its clock."""

from __future__ import annotations

import os
import time

from ledge import __version__
from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.policy.document import read_policy
from ledge.policy.errors import PolicyError
from ledge.policy.evaluator import read_file
from ledge.settings import CANNOT_RUN

# ledged makes its socket within seconds of its start, on a slow machine too.
_SLACK_SECONDS = 60.0
_LAST_BYTES = 4096
_START_TIME = 19  # of the words after the name in /proc/PID/stat (proc(5), field 22)


def ledged(node: Node, subject: Subject) -> None:
    """That it answers, and is of this installation."""
    error, pid = node.unavailable, node.ledged_pid
    if error is not None:
        log = node.starter.get("LEDGED_LOG") or "LedgeLog"
        if pid is None:
            why = _why_it_ended(log)
            remedy = node.how_to_start_anew + ("" if why else f"; {log} says why it ended")
            subject.fault(f"ledged is not running{why}", node.cost_without_ledged, remedy)
        elif not os.path.lexists(node.socket):
            problem = f"ledged runs as process {pid}, but {node.socket} is gone"
            subject.fault(problem, node.cost_without_ledged, node.how_to_start_anew)
        else:
            remedy = node.how_to_start_anew.replace("kill ", "kill -9 ", 1)
            subject.fault(error.problem, node.cost_without_ledged, remedy)
        return
    version = str(node.status.get("version") or node.advertised.get("LedgeVersion") or "")
    if version and version != __version__:
        subject.warning(
            f"ledged is of version {version}, installed is {__version__}",
            "what has changed since is not in force; wrapper and ledged may misunderstand "
            "each other, and then jobs do not start",
            node.how_to_start_anew,
        )
    subject.summary = f"version {version or 'not told'}, answers"


def _why_it_ended(log: str) -> str:
    """What the last line of ledged's log says of its end; empty where it says nothing."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_BYTES))
            last = file.read().decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    except FileNotFoundError:
        return f", and there is no {log}: see to LEDGED_LOG"
    except OSError:
        return ""
    _, told, why = last.partition(CANNOT_RUN)
    return f": {why}" if told else ""


def policy(node: Node, subject: Subject) -> None:
    """That the file is one, and in force."""
    path = str(node.status.get("policy") or node.starter.get("LEDGE_POLICY"))
    in_force = str(node.status.get("policy_problem") or "")
    cost = "every job is refused"
    if node.advertised.get("HasLedge") != "false":
        cost = f"what ledged has read before stays in force until it starts anew; then {cost}"
    try:
        document = read_file(path)
        if document is not None:
            rules = len(read_policy(document, path).rules)
            subject.summary = f"{path}, {rules} rule{'' if rules == 1 else 's'}"
    except PolicyError as error:
        if not node.is_root and not os.access(path, os.R_OK):
            subject.untold = f"{path} is not ours to read"
            return
        again = f"condor_ledge policy check {path} until it says OK, then condor_reconfig"
        remedy = f"{error.remedy}; {again}" if error.remedy else again
        subject.fault(error.problem, cost, remedy)
        return
    if document is None:
        problem = f"there is no policy {path}"
        remedy = "install policy.yaml of condor-ledge there, condor_reconfig"
        subject.warning(problem, "the built-in plan is in force: no limits at all", remedy)
    elif in_force:
        problem = f"ledged has not read what is in {path} now; it says: {in_force}"
        subject.fault(problem, cost, "condor_reconfig")


def clock(node: Node, subject: Subject) -> None:
    """That nobody has set the clock since ledged began.

    The kernel counts a process's age on a clock that nobody can set; the socket has the time of
    day that it was then.
    """
    pid = node.ledged_pid
    try:
        then = os.stat(node.socket).st_mtime
        jump = time.time() - _age_seconds(pid) - then if pid is not None else None
    except OSError:
        jump = None
    if jump is None:
        subject.untold = "it is ledged that knows, and it does not answer"
        return
    subject.summary = "not set since ledged began"
    if abs(jump) > _SLACK_SECONDS:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(then))
        subject.warning(
            f"the clock was set by about {jump:+.0f} s since ledged began ({began} by it then)",
            "HTCondor's times of what began before are off by that, and tokens may count as "
            "expired; for more than 1200 s condor_master restarts HTCondor, and jobs are lost",
            "timedatectl (or chronyc tracking) says whether it is right now; then condor_restart "
            "-peaceful",
        )


def _age_seconds(pid: int) -> float:
    """How long a process has lived. Raises OSError."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rpartition(")")[2].split()
    began = int(words[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began
