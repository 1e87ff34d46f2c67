"""What HTCondor's versions call things: whether the group above is the job's alone."""

from __future__ import annotations

import pytest

from ledge.condor_versions import is_jobs_group, is_scope_of_job, parse_version
from tests.unit import captured


def test_a_slice_that_htcondor_made() -> None:
    path = captured.PROC_SELF_CGROUP.partition(b"::")[2].strip()
    assert is_scope_of_job(path)


def test_what_we_made_of_a_group_that_htcondor_made() -> None:
    assert is_scope_of_job(b"/htcondor/condor_var_execute_slot1_1@node/wrapper.scope")


@pytest.mark.parametrize(
    ("name", "made_for_a_job"),
    [
        (b"condor_var_execute_slot1_1@node.slice", True),
        (b"condor_var_execute_slot1_1@node", True),  # before 24.8
        (b"leaf", False),
        (b"ledge-preflight-1", False),
        (b"condor_var_execute_slot1_1@node.scope", False),
    ],
)
def test_a_group_that_htcondor_made(name: bytes, made_for_a_job: bool) -> None:
    assert is_jobs_group(name) == made_for_a_job


@pytest.mark.parametrize(
    ("text", "version"),
    [("25.14.1", (25, 14)), ("23.9.6", (23, 9)), ("", None), ("25", None), ("x.y", None)],
)
def test_version(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/user.slice/user-1000.slice/session-2.scope",
        b"/user.slice/user@1000.service/app.slice/app-x.scope",
        b"/htcondor/slot1_1.slice",
        b"/slot1_1.slice/slot1_2.scope",
        b"/htcondor/condor_slot1_1",
        b"/user.slice/wrapper.scope",
    ],
)
def test_others(path: bytes) -> None:
    assert not is_scope_of_job(path)
