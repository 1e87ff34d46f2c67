"""Which commands of the starter's are jobs for the wrapper, told by the job ad."""

from __future__ import annotations

import pytest

from ledge.inheritance import Inheritance
from ledge.universe import checkpoints_itself, left_alone


def command(path: bytes, *environ: bytes) -> Inheritance:
    return Inheritance([path, b"argument"], list(environ))


VANILLA = b'Cmd = "/home/alice/job"\nJobUniverse = 5\n'
JOB = b"/var/lib/condor/execute/dir_7/scratch/job"


@pytest.mark.parametrize(
    ("ad", "inheritance", "reason"),
    [
        pytest.param(VANILLA, command(JOB), None, id="vanilla"),
        pytest.param(b"", command(JOB), None, id="no ad: rather isolated than not"),
        pytest.param(b"JobUniverse = 12\n", command(JOB), "local universe", id="local"),
        pytest.param(
            VANILLA,
            command(b"/usr/bin/apptainer"),
            "left to apptainer",
            id="apptainer, the starter's",
        ),
        pytest.param(
            b'Cmd = "/usr/bin/apptainer"\nJobUniverse = 5\n',
            command(b"/usr/bin/apptainer"),
            None,
            id="apptainer, the job's own",
        ),
        pytest.param(
            VANILLA, command(b"/usr/sbin/sshd", b"_CONDOR_JOB_PIDS=42"), "", id="condor_ssh_to_job"
        ),
        pytest.param(
            VANILLA, command(b"/usr/sbin/sshd", b"_CONDOR_JOB_PIDS="), None, id="a job called sshd"
        ),
    ],
)
def test_left_alone(ad: bytes, inheritance: Inheritance, reason: str | None) -> None:
    assert left_alone(inheritance, ad) == reason


@pytest.mark.parametrize(
    ("ad", "expected"),
    [
        (b"WantFTOnCheckpoint = true\n", True),
        (b"WantFTOnCheckpoint = false\n", False),
        (b"", False),
    ],
)
def test_checkpoints_itself(ad: bytes, expected: bool) -> None:
    assert checkpoints_itself(ad) is expected
