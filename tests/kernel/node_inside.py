"""What condor_master starts, in a PID namespace of its own: ledged, and a starter with one job.

    INSTALLED EXECUTE DIRECTORY SLICE LEDGED

It leaves the wrapper's PID and the job's directory in DIRECTORY/job, and ends, when the job has,
with its exit code. LEDGED is 1 if ledged is to be in here, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from tests.kernel.cgroups import Slice
from tests.kernel.ledged import Ledged
from tests.kernel.starter import Starter, User

JOB = """
mkfifo gate
timeout 0.2 sh -c "while :; do :; done"
touch running
read line <gate
exit 7
"""
_PR_SET_NAME = 15


def main() -> int:
    """The exit code of the job."""
    installed, execute, directory = (Path(word) for word in sys.argv[1:4])
    ledged = Ledged(installed, directory) if sys.argv[5] == "1" else None
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"condor_starter")
    slice_ = Slice.of(Path(sys.argv[4]))
    starter = Starter(installed / "job_wrapper", execute, User.named("nobody"), slice_)
    job = starter.start("/bin/sh", "-c", JOB)
    job.wait_for("running")
    (directory / "job.new").write_text(f"{job.pid} {job.directory}")
    os.rename(directory / "job.new", directory / "job")
    code = os.waitstatus_to_exitcode(job.wait(60.0))
    assert job.error == b"", job.error
    assert slice_.is_empty()
    if ledged is not None:
        ledged.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
