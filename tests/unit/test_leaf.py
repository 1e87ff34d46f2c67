"""Whether the group above is the job's alone."""

from __future__ import annotations

import pytest

from ledge.leaf import is_of_one_job
from tests.unit import captured


def test_a_slice_that_htcondor_made() -> None:
    path = captured.PROC_SELF_CGROUP.partition(b"::")[2].strip()
    assert is_of_one_job(path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/user.slice/user-1000.slice/session-2.scope",
        b"/user.slice/user@1000.service/app.slice/app-x.scope",
        b"/htcondor/slot1_1.slice",
        b"/slot1_1.slice/slot1_2.scope",
    ],
)
def test_others(path: bytes) -> None:
    assert not is_of_one_job(path)
