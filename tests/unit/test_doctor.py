"""condor_ledge doctor: what it reads, and how it says what it found. The rest is done for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledge.cli import doctor as command
from ledge.doctor import htcondor, service
from ledge.doctor.configuration import Configuration, parse
from ledge.doctor.node import Node
from ledge.doctor.report import Subject
from ledge.doctor.selinux import denials
from ledge.preflight.abilities import Abilities, machine_attributes

# condor_config_val -subsystem STARTER -verbose of HTCondor 25.14.1; of what is not defined the name
# goes to standard error.
CAPTURED = """\
 # at: <Default>
 # raw: USER_JOB_WRAPPER =\x20

CONDOR_VERSION = 25.14.1
 # at: <Default>
 # raw: CONDOR_VERSION = 25.14.1

STARTER.ENABLE_CHIRP = False
 # at: /etc/condor/config.d/99-x.conf, line 2
 # raw: STARTER.ENABLE_CHIRP = False

 # at: /etc/condor/config.d/50-condor-ledge.conf, line 28
 # raw: LEDGE_JOB_WRAPPER_0_0 =\x20

STARTD_CRON_JOBLIST =  LEDGE
 # at: /etc/condor/config.d/50-condor-ledge.conf, line 61
 # raw: STARTD_CRON_JOBLIST =  $(LEDGE_CRON_JOBS_$(LEDGE_ENABLED_01))

"""
AVC = (
    'type=AVC msg=audit(1763889005.532:184): avc:  denied  { connectto } for  pid=2919 '
    'comm="job_wrapper" path="/run/condor-ledge/socket" '
    "scontext=system_u:system_r:condor_startd_t:s0 tcontext=system_u:system_r:condor_master_t:s0 "
    "tclass=unix_stream_socket permissive=0\n"
    'type=AVC msg=audit(1763889005.532:185): avc:  denied  { read } for  pid=7 comm="httpd" '
    'name="online" tclass=file permissive=0\n'
)


def configuration(subsystem: str = "STARTER", **values: str) -> Configuration:
    lines = [f"{name} = {value}\n # at: /etc/c, line 1\n\n" for name, value in values.items()]
    return Configuration(subsystem, parse("".join(lines), subsystem))


def test_the_configuration_with_its_places() -> None:
    values = Configuration("STARTER", parse(CAPTURED, "STARTER"))
    assert values.setting("USER_JOB_WRAPPER") == "USER_JOB_WRAPPER is not defined"
    assert values.setting("CONDOR_VERSION") == "CONDOR_VERSION = 25.14.1"
    place = "/etc/condor/config.d/99-x.conf, line 2"
    assert values.setting("ENABLE_CHIRP") == f"ENABLE_CHIRP = False ({place})"
    assert not values.holds("ENABLE_CHIRP", default=True)
    assert values.holds("ENABLE_CHIRP_DELAYED", default=True)
    assert values.words("STARTD_CRON_JOBLIST") == ["LEDGE"]


@pytest.mark.parametrize(
    ("prefix", "passes"),
    [
        ("Chirp*", True),
        ("Other*, chirp*", True),
        ("CHIRPLEDGE*", True),
        ("ChirpLedgeCpu*", True),
        ("Other*", False),
        ("Chirp", False),
        ("", False),
    ],
)
def test_the_prefix_of_delayed_updates(prefix: str, passes: bool) -> None:
    subject = Subject("chirp")
    values = configuration("SHADOW", CHIRP_DELAYED_UPDATE_PREFIX=prefix)
    htcondor._check_prefix(subject, values)
    assert bool(subject.findings) == (not passes)


def node(**values: str) -> Node:
    made = Node("/no/such/socket")
    made.__dict__["starter"] = made.__dict__["schedd"] = configuration(**values)
    made.__dict__["shadow"] = configuration("SHADOW", **values)
    return made


def test_a_hook_for_the_end_of_a_job_is_a_fault() -> None:
    subject = Subject("configuration")
    htcondor.configuration(
        node(
            LEDGE_ENABLED="True", LEDGE_DAEMON="True", LEDGE_LIBEXEC="/l",
            USER_JOB_WRAPPER="/l/job_wrapper", LEDGE_HOOK_PREPARE_JOB="/l/prepare_job",
            STARTER_DEFAULT_JOB_HOOK_KEYWORD="LEDGE", LEDGE_HOOK_JOB_EXIT="/x",
        ),
        subject,
    )  # fmt: skip
    problems = [finding.problem for finding in subject.findings]
    assert problems == [
        "/l/job_wrapper cannot be executed",
        "/l/prepare_job cannot be executed",
        "there is a hook for the end of a job: LEDGE_HOOK_JOB_EXIT = /x (/etc/c, line 1)",
    ]


def wrapped(wrapper: str, raw: str = "") -> tuple[str, list[str]]:
    """What doctor says of a wrapper: the summary, and the problems that name it."""
    lines = f"USER_JOB_WRAPPER = {wrapper}\n # at: /etc/c, line 1\n # raw: {raw}\n\n"
    values = node(LEDGE_ENABLED="True", LEDGE_DAEMON="True", LEDGE_LIBEXEC="/l")
    values.starter._values.update(parse(lines, "STARTER"))
    subject = Subject("configuration")
    htcondor.configuration(values, subject)
    return subject.summary, [f.problem for f in subject.findings if wrapper in f.problem]


def test_a_wrapper_of_the_site_that_names_ours_is_right(tmp_path: Path) -> None:
    site = tmp_path / "wrapper"
    site.write_text('#!/bin/sh\nexec /l/job_wrapper "$@"\n')
    site.chmod(0o755)
    assert wrapped(str(site)) == (
        f"wrapper and hook are those of condor-ledge, after {site}", []
    )  # fmt: skip
    site.write_text('#!/bin/sh\nexec /l/job_wrapper_alone "$@"\n')
    assert wrapped(str(site))[1]


def test_a_wrapper_that_is_replaced_is_told() -> None:
    raw = "USER_JOB_WRAPPER = $(LEDGE_JOB_WRAPPER_$(A)_$(B):/usr/local/bin/site)"
    _, problems = wrapped("/l/job_wrapper", raw)
    assert problems == [
        "/l/job_wrapper cannot be executed",
    ]
    subject = Subject("configuration")
    values = Configuration("STARTER", parse(f"A = b\n # at: x\n # raw: {raw}\n", "STARTER"))
    htcondor._check_replaced(subject, values, "A", "")
    assert subject.findings[0].cost == "/usr/local/bin/site is not run"


def test_switched_off_is_a_warning_and_nothing_more() -> None:
    subject = Subject("configuration")
    htcondor.configuration(node(LEDGE_ENABLED="False"), subject)
    assert subject.status == "warning"
    assert "condor-ledge is off: LEDGE_ENABLED = False (/etc/c, line 1)" in str(subject.findings)


def test_a_switch_that_is_neither_true_nor_false() -> None:
    subject = Subject("configuration")
    text = '1 == 0 || (Flase) == false ? "0" : "1"'
    values = node(LEDGE_ENABLED="Flase", LEDGE_ENABLED_IS=text, LEDGE_DAEMON_IS="0")
    htcondor.configuration(values, subject)
    first = subject.findings[0]
    assert first.problem == (
        "LEDGE_ENABLED = Flase (/etc/c, line 1): that is neither True nor False"
    )
    assert first.cost == "it counts as True"
    assert values.enabled and not values.with_ledged


def test_what_ledgeusage_needs() -> None:
    for nested, metrics, found in (("True", "PEAK:Ledge", 0), ("False", "", 2)):
        subject = Subject("advertised")
        values = node(
            STARTD_CRON_JOBLIST="Ledge", LEDGE_USAGE="True", STARTER_NESTED_SCRATCH=nested,
            STARTD_CRON_LEDGE_METRICS=metrics,
        )  # fmt: skip
        htcondor.advertising(values, subject)
        assert len(subject.findings) == found


@pytest.mark.parametrize(("version", "found"), [("23.9.6", 1), ("25.14.1", 0)])
def test_ledgeusage_where_htcondor_knows_no_nested_scratch(version: str, found: int) -> None:
    subject = Subject("advertised")
    values = node(
        CONDOR_VERSION=version, STARTD_CRON_JOBLIST="LEDGE", LEDGE_USAGE="True",
        STARTD_CRON_LEDGE_METRICS="PEAK:Ledge",
    )  # fmt: skip
    htcondor.advertising(values, subject)
    assert len(subject.findings) == found


@pytest.mark.parametrize(("version", "found"), [("23.9.6", 1), ("25.14.1", 0)])
def test_recording_where_the_startd_tells_no_starter(version: str, found: int) -> None:
    subject = Subject("advertised")
    values = node(CONDOR_VERSION=version, STARTD_CRON_JOBLIST="LEDGE", LEDGE_RECORD="True")
    htcondor.advertising(values, subject)
    assert len(subject.findings) == found


@pytest.mark.parametrize(("version", "harms"), [("23.9.6", True), ("24.8.1", False)])
def test_a_hook_where_it_costs_the_control_group(version: str, harms: bool) -> None:
    subject = Subject("configuration")
    values = node(
        CONDOR_VERSION=version, LEDGE_ENABLED="True", LEDGE_LIBEXEC="/l",
        LEDGE_HOOK_PREPARE_JOB="/l/prepare_job", STARTER_DEFAULT_JOB_HOOK_KEYWORD="LEDGE",
    )  # fmt: skip
    htcondor.configuration(values, subject)
    assert ("gives a job no control group" in str(subject.findings)) == harms


@pytest.mark.parametrize(("version", "harms"), [("23.9.6", False), ("25.14.1", True), ("", True)])
def test_a_hook_for_the_end_of_a_job(version: str, harms: bool) -> None:
    subject = Subject("configuration")
    values = node(
        CONDOR_VERSION=version, LEDGE_ENABLED="True", LEDGE_HOOK_JOB_EXIT="/x",
        STARTER_DEFAULT_JOB_HOOK_KEYWORD="LEDGE",
    )  # fmt: skip
    htcondor.configuration(values, subject)
    assert ("there is a hook for the end of a job" in str(subject.findings)) == harms


@pytest.mark.parametrize("refuses", [True, False])
def test_what_a_policy_that_is_not_in_force_costs(tmp_path: Path, refuses: bool) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    made = node(LEDGE_POLICY=str(path))
    made.__dict__["status"] = {"policy_problem": "the evaluator is not running"}
    made.__dict__["advertised"] = {"HasLedge": str(not refuses).lower()}
    subject = Subject("policy")
    service.policy(made, subject)
    (finding,) = subject.findings
    assert "the evaluator is not running" in finding.problem
    assert (finding.cost == "every job is refused") == refuses
    assert finding.remedy == "condor_reconfig"


def test_ledgeusage_among_the_protected_attributes_is_a_fault() -> None:
    subject = Subject("chirp")
    htcondor.chirp_of_shadow(
        node(CHIRP_DELAYED_UPDATE_PREFIX="Chirp*", PROTECTED_JOB_ATTRS="Owner, ledgeusage"), subject
    )
    assert [finding.severity for finding in subject.findings] == ["fault"]


def test_a_file_made_in_the_future_or_the_past_is_a_clock_that_was_set(tmp_path: Path) -> None:
    """The socket of a process that has lived for a moment, and its time of day."""
    for jump in (0, 600, -600):
        socket = tmp_path / "socket"
        socket.touch()
        began = socket.stat().st_mtime - service._age_seconds(os.getpid())
        os.utime(socket, (began - jump, began - jump))
        made = Node(str(socket))
        made.__dict__["ledged_pid"] = os.getpid()
        subject = Subject("clock")
        service.clock(made, subject)
        assert len(subject.findings) == (jump != 0)
        if jump:
            assert f"the clock was set by about {jump:+d} s" in subject.findings[0].problem


def test_selinux_s_denials_of_our_programs() -> None:
    found = denials(AVC)
    assert list(found) == ["job_wrapper"]
    assert found["job_wrapper"].startswith("connectto ")
    assert "tclass=unix_stream_socket" in found["job_wrapper"]


def test_a_page_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    well = Subject("kernel")
    well.summary = "Linux 6.12"
    ill = Subject("ledged")
    ill.fault("it is " + "very " * 30 + "ill", "all " * 40, "kill 77")
    untold = Subject("namespaces")
    untold.untold = "needs root"
    for subject in (well, ill, untold):
        command._print(subject, 80, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      kernel          Linux 6.12"
    assert lines[1].startswith("FAULT   ledged          it is very")
    assert lines[-2] == "                  mend  kill 77"
    assert lines[-1] == "?       namespaces      needs root"
    assert max(map(len, lines)) <= 80
    assert (well.status, ill.status, untold.status) == ("ok", "fault", "untold")


def test_what_is_missing_goes_into_an_ad_of_the_old_format() -> None:
    missing = {"network": 'the kernel says "no" \\ never'}
    attributes = machine_attributes(Abilities(("pid",), ("cpu", "memory"), (), missing))
    assert attributes["LedgeAccounting"] == "cpu,memory"
    assert attributes["LedgeMissing"] == "network: the kernel says 'no' / never"
    refused = machine_attributes(Abilities(("pid",), (), (), {}), "no policy")
    assert (refused["HasLedge"], refused["LedgeMissing"]) == (False, "no policy")
    bare = machine_attributes(Abilities((), (), (), {"namespaces": "no"}))
    assert (bare["HasLedge"], bare["LedgeMissing"]) == (
        False,
        "no namespace can be made | namespaces: no",
    )
