"""Which of the commands that the starter hands to the wrapper are jobs for us.

Left alone are: jobs of the local universe, which are meant to run on the access point as it is;
container runtimes, which make namespaces of their own (some are set-uid, which a user namespace
would break). The Docker universe and the scheduler universe never call a wrapper. The sshd of
condor_ssh_to_job is no job, but part of one.
"""

from __future__ import annotations

from ledge.classads import attribute, string
from ledge.job.inheritance import Inheritance

_LOCAL_UNIVERSE = b"12"
_RUNTIMES = (b"apptainer", b"singularity")


def left_alone(inheritance: Inheritance, ad: bytes) -> str | None:
    """Why the command is to be run as it is; None if it is ours.

    The starter's substitute for the job's command is told from a job that itself starts, say,
    apptainer by the job ad: there the command is the job's own.
    """
    if attribute(ad, b"JobUniverse") == _LOCAL_UNIVERSE:
        return "local universe"
    program = _name(inheritance.argv[0])
    if program in _RUNTIMES and program != _name(string(attribute(ad, b"Cmd")) or b""):
        return f"left to {program.decode()}"
    return None


def is_session(inheritance: Inheritance) -> bool:
    """Whether it is the sshd of condor_ssh_to_job.

    Of a job the starter sets the variable empty: nobody has been started before it.
    """
    program = _name(inheritance.argv[0])
    return program == b"sshd" and bool(inheritance.variable(b"_CONDOR_JOB_PIDS"))


def is_interactive(ad: bytes) -> bool:
    """Whether the job is that of condor_submit -interactive, which ends when a session begins."""
    return attribute(ad, b"InteractiveJob") == b"true"


def awaits_session(ad: bytes) -> bool:
    """Whether an interactive job, left alone, does not end before the session that it is for.

    HTCondor's own (INTERACTIVE_SUBMIT_FILE) looks for the session's directory.
    """
    return b"/.condor_ssh_to_job_" in ad


def checkpoints_itself(ad: bytes) -> bool:
    """Whether the starter starts the job anew after each checkpoint (checkpoint_exit_code)."""
    return attribute(ad, b"WantFTOnCheckpoint") == b"true"


def read_job_ad(inheritance: Inheritance) -> bytes:
    """The job ad as the starter wrote it, in the old format; empty if there is none."""
    return read_ad(inheritance, b"_CONDOR_JOB_AD")


def read_ad(inheritance: Inheritance, variable: bytes) -> bytes:
    """The ad in the file that a variable of the job's environment names; empty if there is none."""
    path = inheritance.variable(variable)
    try:
        with open(path or b"", "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
