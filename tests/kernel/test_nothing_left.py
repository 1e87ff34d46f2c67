"""Nothing is left of jobs that are killed at random moments, whatever their isolation.

The jobs and those who kill them are in tests/kernel/killed_jobs.py; what is counted is in
tests/inventory.py. CONDOR_LEDGE_LEFT_JOBS is how many jobs there are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import SOURCE_ROOT

pytestmark = pytest.mark.requires("root", "cgroup2", "bpf", "ip", "nft", "overlay", "userns")

JOBS = int(os.environ.get("CONDOR_LEDGE_LEFT_JOBS", "60"))
SEED = int(os.environ.get("CONDOR_LEDGE_SEED", "2011"))
NODE = ("unshare", "--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child")
# PID 1 is to reap what has lost its parent.
INIT = ("sh", "-c", '"$@"; exit $?', "sh")
# What the jobs have while they run: an inventory in which it does not show would find nothing left.
SEEN = {"process", "namespace", "mount", "device", "rule", "cgroup", "keys", "socket"}


def test_killed_at_random_moments(installed: Path) -> None:
    arguments = [str(installed), str(JOBS), str(SEED)]
    program = [sys.executable, "-m", "tests.kernel.killed_jobs", *arguments]
    command = [*NODE, *INIT, *program]
    done = subprocess.run(command, cwd=SOURCE_ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    print(told)
    assert set(told["meanwhile"]) >= SEEN
    assert told["left with ledged"] == []
    assert told["left without"] == []
