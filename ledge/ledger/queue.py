"""Job ads from the access point: of the queue and, once a job has left it, of the history.

HTCondor's own commands are asked, not the bindings: they find the schedd, the history file and
the user's credentials as the user is used to, and can be stopped.
"""

from __future__ import annotations

import subprocess
import textwrap

from ledge.errors import LedgeError

# A cluster's history is read backwards until that many jobs are found.
MOST_JOBS = 1000
# Of so many jobs and clusters at once it can be asked: each is a term of the question.
MOST_TERMS = 100
_PATIENCE_SECONDS = 120.0
_LONGEST_WORDS = 300  # condor_q explains at length


def queued(jobs: list[str], schedd: str | None) -> bytes:
    """The ads of jobs ("12.3") or of clusters' jobs ("12") in the queue. Raises LedgeError."""
    return _output("condor_q", *_named(schedd), "-allusers", "-long", *jobs)


def past(jobs: list[str], schedd: str | None) -> bytes:
    """The same of the history, the last one first. Raises LedgeError."""
    one_each = all("." in job for job in jobs)
    limit = str(len(jobs) if one_each else MOST_JOBS)
    return _output("condor_history", *_named(schedd), "-long", "-limit", limit, *jobs)


def _named(schedd: str | None) -> tuple[str, ...]:
    return ("-name", schedd) if schedd else ()


def _output(*command: str) -> bytes:
    name = command[0]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_SECONDS
        )
    except FileNotFoundError:
        remedy = "run this where HTCondor is, or give it a file that condor_q -long has printed"
        raise LedgeError(f"{name}: command not found", remedy) from None
    except OSError as error:
        raise LedgeError(f"{name}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        problem = f"{name} did not answer within {_PATIENCE_SECONDS:.0f} s"
        raise LedgeError(problem, "is the schedd up?") from None
    if result.returncode != 0:
        words = result.stderr.decode("utf-8", "replace").partition("Extra Info:")[0].strip()
        words = textwrap.shorten(words, _LONGEST_WORDS) or "it said nothing"
        raise LedgeError(f"{name} failed (exit status {result.returncode}): {words}")
    return result.stdout
