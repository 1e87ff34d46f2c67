"""The command condor_ledge of this checkout, run by root."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.installed import SOURCE_ROOT
from tests.kernel.starter import PATIENCE_SECONDS

JOB = "1.0"  # as tests/kernel/starter.py has it
PROGRAM = [sys.executable, "-m", "ledge"]


def ledge(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    return subprocess.run(
        [*PROGRAM, *words], input=stdin, capture_output=True, cwd=SOURCE_ROOT,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip


def entering(*words: str) -> subprocess.Popen[bytes]:
    """Enter the job, with pipes."""
    return subprocess.Popen(
        [*PROGRAM, "enter", JOB, *words], cwd=SOURCE_ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def enter(*words: str, stdin: bytes = b"") -> bytes:
    """What a command in the job prints; it is to end well."""
    done = ledge("enter", JOB, *words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def listed(*words: str) -> list[dict[str, Any]]:
    """What ps says."""
    done = ledge("ps", "--json", *words)
    assert done.stderr == b""
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def process(told: dict[str, Any], command: str) -> dict[str, Any]:
    """The one process of a job whose command line begins so."""
    (found,) = [one for one in told["processes"] if one["command"].startswith(command)]
    assert isinstance(found, dict)
    return found


def runs(command: str) -> bool:
    """Whether a process in the job has this command line."""
    return any(one["command"] == command for one in listed(JOB)[0]["processes"])
