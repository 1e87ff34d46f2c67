"""Which commands of the starter's are jobs for the wrapper, told by the job ad."""

from __future__ import annotations

import pytest

from ledge.job.inheritance import Inheritance
from ledge.wrapper.universe import (
    awaits_session,
    checkpoints_itself,
    is_interactive,
    is_session,
    left_alone,
)


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
    ],
)
def test_left_alone(ad: bytes, inheritance: Inheritance, reason: str | None) -> None:
    assert left_alone(inheritance, ad) == reason


@pytest.mark.parametrize(
    ("inheritance", "expected"),
    [
        pytest.param(command(b"/usr/sbin/sshd", b"_CONDOR_JOB_PIDS=42"), True, id="a session"),
        pytest.param(command(b"/usr/sbin/sshd", b"_CONDOR_JOB_PIDS="), False, id="a job"),
        pytest.param(command(b"/usr/sbin/sshd"), False, id="no starter's"),
        pytest.param(command(JOB, b"_CONDOR_JOB_PIDS=42"), False, id="started after a checkpoint"),
    ],
)
def test_is_session(inheritance: Inheritance, expected: bool) -> None:
    assert is_session(inheritance) is expected


# As interactive.sub of HTCondor 25 has it in the job ad.
INTERACTIVE = (
    b"Arguments = \"-c 'sleep 180 && while test -d ${_CONDOR_SCRATCH_DIR}/.condor_ssh_to_job_1; "
    b"do /bin/sleep 3; done'\"\nInteractiveJob = true\n"
)


def test_interactive_jobs() -> None:
    assert [is_interactive(ad) for ad in (INTERACTIVE, VANILLA)] == [True, False]
    shorter = INTERACTIVE.partition(b"\n")[2]
    assert [awaits_session(ad) for ad in (INTERACTIVE, shorter)] == [True, False]


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
