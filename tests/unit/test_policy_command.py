"""condor_ledge policy check, condor_ledge policy explain: what they print, and the exit status."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from ledge.cli import main
from tests.installed import SOURCE_ROOT

POLICY = """\
version: 1
defaults:
  pids_max: 1000
  memory_high: 50%
  requests:
    pids_max: {at_most: 5000}
    mounts: {offered: {data: {kind: bind, source: /data, target: /mnt, read_only: true}}}
rules:
- name: big jobs
  match: TARGET.RequestCpus > 8
  io_write_max: 10MB/s
  cpu_max: MY.Cpus + 0.5
- name: closed
  match: TARGET.Owner == "bob"
  refuse: strcat("not for ", TARGET.Owner)
"""
JOB = 'ClusterId = 17\nProcId = 3\nOwner = "alice"\nRequestCpus = 16\n'
MACHINE = "Memory = 4096\nCpus = 16\n"


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    stdout: str
    stderr: str
    returncode: int


def policy_command(*arguments: str, cwd: Path, standard_input: str = "") -> Result:
    """Run it in this process, which takes a fifth of the time."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(standard_input.encode())))
        with redirect_stdout(output), redirect_stderr(errors):
            status = main(["policy", *arguments])
    return Result(output.getvalue(), errors.getvalue(), status)


def command_in_a_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE_ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(
        [sys.executable, "-m", "ledge", "policy", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "job.ad").write_text(JOB)
    (tmp_path / "machine.ad").write_text(MACHINE)
    return tmp_path


def test_check_says_that_a_policy_is_one(files: Path) -> None:
    result = policy_command("check", "policy.yaml", cwd=files)
    assert result.stdout == "policy.yaml: OK, 2 rules, without_daemon: hold\n"
    assert (result.stderr, result.returncode) == ("", 0)


def test_check_says_everything_that_is_wrong(files: Path) -> None:
    (files / "policy.yaml").write_text(
        "version: 1\ndefaults:\n  pid_max: 5\n  cgroup: leef\nrules:\n- name: a\n  match: 1 +\n"
    )
    result = policy_command("check", "policy.yaml", cwd=files)
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "policy.yaml:3", "policy.yaml:4", "policy.yaml:7",
    ]  # fmt: skip
    assert lines[0].startswith("policy.yaml:3: unknown key 'pid_max'; did you mean pids_max? Known")
    assert (result.stdout, result.returncode) == ("", 1)


@pytest.mark.parametrize(
    ("name", "words"), [("none.yaml", "there is no such file"), (".", "Is a directory")]
)
def test_check_of_what_cannot_be_read(files: Path, name: str, words: str) -> None:
    result = policy_command("check", name, cwd=files)
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert result.returncode == 1


def test_explain_prints_the_plan_and_what_set_each_value(files: Path) -> None:
    (files / "job.ad").write_text(
        JOB + 'LedgePidsMax = 2000\nLedgeMounts = "data"\nLedgeIoWeigt = 1\n'
    )
    result = policy_command(
        "explain", "--policy", "policy.yaml", "job.ad", "machine.ad", cwd=files
    )
    by_defaults = "which defaults (policy.yaml:{}) lets it set"
    assert result.stdout.splitlines() == [
        "namespaces:              pid, mount, ipc, cgroup, uts  # built-in",
        "cgroup:                  leaf                          # built-in",
        "network:                 host                          # built-in",
        "network_ports:           none                          # built-in",
        "on_failure:              refuse                        # built-in",
        "hide:                    execute                       # built-in",
        "abstract_sockets:        own_if_possible               # built-in",
        "loopback:                own_if_possible               # built-in",
        "keyring:                 own                           # built-in",
        "no_new_privs:            false                         # built-in",
        "pids_max:                2000                          # LedgePidsMax of the job, "
        + by_defaults.format(6),
        "memory_high:             2G                            # defaults (policy.yaml:4)",
        "memory_swap_max:         none                          # built-in",
        "cpu_max:                 16.5                          # big jobs (policy.yaml:12)",
        "exclusive_cpus:          none                          # built-in",
        "io_read_max:             none                          # built-in",
        "io_write_max:            10M/s                         # big jobs (policy.yaml:11)",
        "io_read_operations_max:  none                          # built-in",
        "io_write_operations_max: none                          # built-in",
        "io_weight:               none                          # built-in",
        "mounts:                  private /tmp                  # LedgeMounts of the job, "
        + by_defaults.format(7),
        "                         private /var/tmp",
        "                         tmpfs /dev/shm",
        "                         devpts /dev/pts",
        "                         /data at /mnt, read-only",
        "note: LedgeIoWeigt of the job is ignored: the policy lets no job set it",
    ]
    assert (result.stderr, result.returncode) == ("", 0)


def test_explain_says_why_a_job_is_refused(files: Path) -> None:
    result = policy_command(
        "explain", "--policy", "policy.yaml", "-", "machine.ad",
        cwd=files, standard_input=JOB.replace("alice", "bob"),
    )  # fmt: skip
    assert result.stdout == "refused: not for bob\n"
    assert (result.stderr, result.returncode) == ("", 1)


def test_explain_several_jobs_without_a_machine(files: Path) -> None:
    (files / "policy.yaml").write_text("version: 1\ndefaults: {pids_max: TARGET.RequestCpus}\n")
    second = "ProcId = 4\nRequestCpus = 1\nClusterId = 17\n"
    result = policy_command(
        "explain", "--policy", "policy.yaml", "-", cwd=files, standard_input=f"{JOB}\n{second}\n\n"
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(("job", "pids_max"))]
    assert [line.split("#")[0].split()[1] for line in lines] == ["17.3", "16", "17.4", "1"]


def test_explain_of_an_ad_that_crashes_the_library(files: Path) -> None:
    result = policy_command(
        "explain", "--policy", "policy.yaml", "-",
        cwd=files, standard_input="X = " + "1+" * 500000 + "1\n",
    )  # fmt: skip
    assert result.stdout.startswith("refused: reading the ads: crashes the ClassAd library")
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no ad in it"),
        ("\n\n \n", "there is no ad in it"),
        ('[{"A": 1}]', "not an ad in the long format; condor_q -long"),
        ("[ A = 1 ]", "not an ad in the long format"),
        ("<?xml version='1.0'?>", "not an ad in the long format"),
    ],
)
def test_explain_of_what_is_no_ad(files: Path, text: str, words: str) -> None:
    result = policy_command(
        "explain", "--policy", "policy.yaml", "-", cwd=files, standard_input=text
    )
    assert result.stderr.startswith(f"condor_ledge policy: -: {words}")
    assert result.returncode == 125


def test_explain_with_a_bad_policy(files: Path) -> None:
    (files / "policy.yaml").write_text("version: 2\n")
    result = policy_command("explain", "--policy", "policy.yaml", "job.ad", cwd=files)
    assert result.stderr == "condor_ledge policy: policy.yaml:1: version: expected 1, found '2'\n"
    assert result.returncode == 1


def test_explain_without_a_policy_file(files: Path) -> None:
    result = command_in_a_process(
        "explain", "--policy", "none.yaml", "job.ad", "machine.ad", cwd=files
    )
    assert result.stdout.count("# built-in") == 21
    assert result.returncode == 0
