"""HTCondor, and what it has to be told for its jobs to come to condor-ledge."""

from __future__ import annotations

import fnmatch
import os
import re

from ledge.condor_versions import (
    HOOK_LEAVES_GROUP,
    JOB_EXIT_HOOK_LOSES_OUTPUT,
    NESTED_SCRATCH,
    OLDEST,
    STARTER_PID,
    TESTED,
    parse_version,
)
from ledge.doctor.configuration import Configuration, of_daemon
from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.errors import LedgeError
from ledge.preflight.groups import htcondors_group

_RECONFIGURE = "condor_reconfig"
_NOT_APART = "jobs are neither kept apart nor accounted for"
_SWITCHES = ("LEDGE_ENABLED", "LEDGE_DAEMON", "LEDGE_USAGE", "LEDGE_RECORD")
_EXAMPLE = "ChirpLedgeCpuUserSeconds"
_MOST_ATTRIBUTES = 100
_LARGEST_WRAPPER = 1 << 20


def htcondor(node: Node, subject: Subject) -> None:
    """Its version, that it runs, and that it has read its configuration."""
    version = node.starter.get("CONDOR_VERSION")
    numbers = parse_version(version)
    if numbers is not None and numbers < OLDEST:
        subject.warning(
            f"HTCondor {version} is older than {OLDEST[0]}.{OLDEST[1]}",
            f"nobody has tried condor-ledge with it; it is tested with {TESTED}",
            "upgrade HTCondor, or LEDGE_ENABLED = False",
        )
    try:
        htcondors_group()
    except LedgeError as error:
        subject.fault(error.problem, "this node runs no jobs", error.remedy)
        return
    _unread(subject, node.starter, "master", "DAEMON_LIST")
    if node.executes:
        _unread(subject, node.starter, "startd", "STARTD_CRON_JOBLIST")
    subject.summary = f"{version}, running"


def _unread(subject: Subject, configuration: Configuration, daemon: str, name: str) -> None:
    running = of_daemon(daemon, name)
    if running is not None and running.split() != configuration.get(name).split():
        subject.warning(
            f"condor_{daemon} has not read its configuration: there {name} is "
            f"{' '.join(running.split()) or 'empty'}, in the files "
            f"{' '.join(configuration.get(name).split()) or 'empty'}",
            "what was configured is not in force",
            _RECONFIGURE,
        )


def configuration(node: Node, subject: Subject) -> None:
    """That jobs come to our wrapper and our hook."""
    values = node.starter
    for name in _SWITCHES:
        _check_switch(subject, values, name)
    if not node.enabled:
        problem = values.setting("LEDGE_ENABLED")
        remedy = f"LEDGE_ENABLED = True in /etc/condor/config.d, {_RECONFIGURE}"
        subject.warning(f"condor-ledge is off: {problem}", _NOT_APART, remedy)
        return
    alone = "" if node.with_ledged else "_alone"
    home = values.get("LEDGE_LIBEXEC")
    wrapper = f"{home}/job_wrapper{alone}"
    before = _check_program(subject, values, "USER_JOB_WRAPPER", wrapper, _NOT_APART)
    _check_replaced(subject, values, "USER_JOB_WRAPPER", "")
    keyword = values.get("STARTER_JOB_HOOK_KEYWORD") or values.get(
        "STARTER_DEFAULT_JOB_HOOK_KEYWORD"
    )
    cost = "jobs that the policy refuses go back to the queue for ever, instead of being held"
    if keyword.upper() != "LEDGE":
        subject.warning(
            f"jobs have another hook: {values.setting('STARTER_DEFAULT_JOB_HOOK_KEYWORD')}",
            cost,
            f"STARTER_DEFAULT_JOB_HOOK_KEYWORD = LEDGE, {_RECONFIGURE}",
        )
    _check_replaced(subject, values, "STARTER_DEFAULT_JOB_HOOK_KEYWORD", "the hooks of ")
    if _is_from(values, HOOK_LEAVES_GROUP):
        hook = f"{home}/prepare_job{alone}"
        before += _check_program(subject, values, "LEDGE_HOOK_PREPARE_JOB", hook, cost)
    elif values.get("LEDGE_HOOK_PREPARE_JOB"):
        subject.fault(
            f"there is a hook: {values.setting('LEDGE_HOOK_PREPARE_JOB')}",
            "HTCondor before 24.8 gives a job no control group then, and ledged starts none so",
            f"take that line out, {_RECONFIGURE}",
        )
    if values.get("LEDGE_HOOK_JOB_EXIT") and _is_from(values, JOB_EXIT_HOOK_LOSES_OUTPUT):
        subject.fault(
            f"there is a hook for the end of a job: {values.setting('LEDGE_HOOK_JOB_EXIT')}",
            "from HTCondor 25.4 on, jobs that transfer files lose their output and run for ever",
            f"take that line out, {_RECONFIGURE}",
        )
    if values.words("STARTD_CRON_JOBLIST").count("LEDGE") > 1:
        subject.warning(
            "50-condor-ledge.conf is read twice",
            "what the first sets the second sets back",
            "condor_config_val -config lists the files; move the second (.new?) out of config.d",
        )
    subject.summary = f"wrapper and hook are those of condor-ledge{before}"


def _check_switch(subject: Subject, values: Configuration, name: str) -> None:
    if len(values.get(f"{name}_IS")) > 1:
        subject.warning(
            f"{values.setting(name)}: that is neither True nor False",
            f"it counts as {values.holds(name)}",
            f"{name} = True or False there, {_RECONFIGURE}",
        )


def _names(program: str, other: str) -> bool:
    try:
        with open(program, "rb") as file:
            text = file.read(_LARGEST_WRAPPER)
    except OSError:
        return False
    return re.search(re.escape(other.encode()) + rb"(?![\w.-])", text) is not None


def _check_replaced(subject: Subject, values: Configuration, name: str, what: str) -> None:
    before = values.before(name)
    if before and before.upper() != values.get(name).upper():
        subject.warning(
            f"an earlier file sets {name} = {before}, and 50-condor-ledge.conf replaces that",
            f"{what}{before} are not run" if what else f"{before} is not run",
            "docs/packages.md says how to have both",
        )


def _check_program(
    subject: Subject, values: Configuration, name: str, path: str, cost: str
) -> str:
    """That it is ours, or one of the site's that goes on to ours; what to say of that one."""
    program = values.get(name)
    if program != path and os.access(program, os.X_OK) and _names(program, path):
        return f", after {program}"
    if program != path:
        remedy = (
            f"take that line out, or {name} = {path} in a file read later; to have both, end "
            f"yours with exec {path} (docs/packages.md); {_RECONFIGURE}"
        )
        subject.fault(f"{values.setting(name)}, and not {path}", cost, remedy)
    elif not os.access(path, os.X_OK):
        remedy = (
            f"install condor-ledge anew; {path} must be there, and anybody's to execute "
            f"({values.setting('LEDGE_LIBEXEC')})"
        )
        subject.fault(f"{path} cannot be executed", "no job can start", remedy)
    return ""


def advertising(node: Node, subject: Subject) -> None:
    """That the startd is told what this node can do."""
    if "LEDGE" not in [name.upper() for name in node.starter.words("STARTD_CRON_JOBLIST")]:
        subject.warning(
            f"no LEDGE in {node.starter.setting('STARTD_CRON_JOBLIST')}",
            "HasLedge and LedgeAccounting are in no machine ad, and LedgeUsage in no job ad: jobs "
            "that require them stay idle",
            f"STARTD_CRON_JOBLIST = $(STARTD_CRON_JOBLIST) LEDGE, {_RECONFIGURE}",
        )
    elif node.starter.holds("LEDGE_USAGE"):
        _check_usage(node.starter, subject)
    if node.starter.holds("LEDGE_RECORD") and not _is_from(node.starter, STARTER_PID):
        subject.warning(
            f"{node.starter.setting('LEDGE_RECORD')}, with HTCondor before 24.7",
            "its startd does not tell whose jobs run: no figures come into a job ad as Ledge",
            f"upgrade HTCondor, or LEDGE_RECORD = False, {_RECONFIGURE}",
        )
    subject.summary = node.advertised.get("LedgeAccounting", "").replace(",", ", ")


def _check_usage(values: Configuration, subject: Subject) -> None:
    cost = "LedgeUsage, the figures that no job can forge, is in no job ad"
    if not values.get("STARTD_CRON_LEDGE_METRICS"):
        remedy = f"STARTER.STARTD_CRON_LEDGE_METRICS = PEAK:Ledge, {_RECONFIGURE}"
        subject.warning("STARTER.STARTD_CRON_LEDGE_METRICS is not set", cost, remedy)
    if not values.holds("STARTER_NESTED_SCRATCH", default=_is_from(values, NESTED_SCRATCH)):
        remedy = f"STARTER_NESTED_SCRATCH = True or LEDGE_USAGE = False, {_RECONFIGURE}"
        subject.warning(values.setting("STARTER_NESTED_SCRATCH"), cost, remedy)


def _is_from(values: Configuration, version: tuple[int, int]) -> bool:
    """Whether HTCondor is of this version or a later one; what cannot be told is a new one."""
    own = parse_version(values.get("CONDOR_VERSION"))
    return own is None or own >= version


def chirp_of_starter(node: Node, subject: Subject) -> None:
    """That the starter takes the figures from the wrapper."""
    for name in ("ENABLE_CHIRP", "ENABLE_CHIRP_DELAYED"):
        if not node.starter.holds(name, default=True):
            subject.fault(
                f"chirp is off: {node.starter.setting(name)}",
                "no ChirpLedge... attribute comes into a job ad",
                f"{name} = True in /etc/condor/config.d; the next job has it",
            )
    most = node.starter.get("CHIRP_DELAYED_UPDATE_MAX_ATTRS", str(_MOST_ATTRIBUTES))
    if most.isdigit() and int(most) < _MOST_ATTRIBUTES:
        subject.warning(
            node.starter.setting("CHIRP_DELAYED_UPDATE_MAX_ATTRS"),
            "some ChirpLedge... attributes are missing from job ads, and no job tells which",
            f"CHIRP_DELAYED_UPDATE_MAX_ATTRS = {_MOST_ATTRIBUTES}; the next job has it",
        )
    _check_prefix(subject, node.starter)


def chirp_of_shadow(node: Node, subject: Subject) -> None:
    """That the shadow takes the figures from the starter, and may write them."""
    _check_prefix(subject, node.shadow)
    protected = [name.lower() for name in node.schedd.words("PROTECTED_JOB_ATTRS")]
    if "ledgeusage" in protected:
        subject.fault(
            f"LedgeUsage is in {node.schedd.setting('PROTECTED_JOB_ATTRS')}",
            "the schedd refuses the shadow's last update: jobs that have it cannot end",
            f"take LedgeUsage out of it, {_RECONFIGURE}; docs/recording.md says why",
        )


def _check_prefix(subject: Subject, values: Configuration) -> None:
    name = "CHIRP_DELAYED_UPDATE_PREFIX"
    patterns = values.words(name)
    if any(fnmatch.fnmatchcase(_EXAMPLE.lower(), pattern.lower()) for pattern in patterns):
        subject.summary = f"{name} = {values.get(name)}"
        return
    who = values.subsystem.lower()
    place = "this access point" if who == "shadow" else "this node"
    subject.fault(
        f"the {who} takes no ChirpLedge... attributes: {values.setting(name)}",
        f"they are in the ad of no job of {place}",
        f"{name} = $({name}) Chirp* in a file of /etc/condor/config.d; the next job has it",
    )
