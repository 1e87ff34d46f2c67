"""What one job can do to another, and to the node: with HTCondor alone, and with condor-ledge.

A victim and an attacker of one user, the same of two users, and an attacker on the node: five jobs
at once, without condor-ledge and then with it. tests/interference has the ways; what a way does is
seen by the victim, or by what was read. CONDOR_LEDGE_TABLE writes the table into a file.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.interference.table import OPEN, Result, results, table
from tests.pool.condor import Pool
from tests.pool.job import Submission

PROGRAMS = Path(__file__).parents[1] / "interference"
ATTACKER = {"attacker.py": (PROGRAMS / "attacker.py").read_text()}
VICTIM = {"victim.py": (PROGRAMS / "victim.py").read_text()}
REFEREE = "/root/referee.py"
PATIENCE_SECONDS = 300.0
COMMON = "request_memory = 256M\nrequest_disk = 100M\n"

Columns = dict[str, dict[str, Result]]


def submissions() -> list[Submission]:
    """Victim and attacker of one user, of two users, and an attacker on the node."""
    victim = f"{COMMON}executable = victim.py\n"
    attacker = f"{COMMON}executable = attacker.py\n"
    return [
        Submission(victim, "alice", "victim", VICTIM),
        Submission(attacker, "alice", "attacker", ATTACKER),
        Submission(victim, "bob", "victim", VICTIM),
        Submission(attacker, "carol", "attacker", ATTACKER),
        Submission(f"{attacker}arguments = --node\n", "carol", "node", ATTACKER),
    ]


def attacked(pool: Pool) -> dict[str, dict[str, Result]]:
    """All ways of the five jobs, by whom they were meant for."""
    jobs = pool.submit_all(submissions())
    places = [job.directory for job in jobs]
    wanted: dict[str, Any] = {"pairs": [places[0:2], places[2:4]], "node": places[4:]}
    command = shlex.join(["python3", REFEREE, json.dumps(wanted)])
    found = json.loads(pool.root(command, timeout=PATIENCE_SECONDS).stdout)
    for job in jobs:
        job.wait("terminated", PATIENCE_SECONDS)
    return dict(zip(("one user", "two users", "node"), map(results, found)))


@pytest.fixture(scope="module")
def tried(pool: Pool, _installed: None) -> dict[str, Columns]:
    """What came of every way, by whom it was meant for, without and with condor-ledge."""
    pool.put((PROGRAMS / "referee.py").read_text(), REFEREE)
    pool.put("closed", "/home/bob/closed", "bob", 0o600)
    pool.plugin_off()
    without = attacked(pool)
    pool.plugin_on()
    with_ledge = attacked(pool)
    tried = {
        name: {"HTCondor alone": without[name], "condor-ledge": with_ledge[name]}
        for name in without
    }
    pairs = {
        f"{column}, {name}": results
        for name in ("one user", "two users")
        for column, results in tried[name].items()
    }
    text = f"{table(pairs)}\n\n{table(tried['node'])}\n"
    print(text)
    if path := os.environ.get("CONDOR_LEDGE_TABLE"):
        Path(path).write_text(text)
    return tried


def reached(tried: dict[str, Columns], meant_for: str) -> dict[str, str]:
    """The ways that condor-ledge leaves open, and how that was seen."""
    found = tried[meant_for]["condor-ledge"]
    return {way: result.how for way, result in found.items() if result.reached}


def test_two_jobs_of_one_user(tried: dict[str, Columns]) -> None:
    assert set(reached(tried, "one user")) == set(OPEN)


def test_two_jobs_of_two_users(tried: dict[str, Columns]) -> None:
    assert set(reached(tried, "two users")) <= set(OPEN)


def test_a_job_against_the_node(tried: dict[str, Columns]) -> None:
    assert set(reached(tried, "node")) <= {"list of the node's mounts"}
