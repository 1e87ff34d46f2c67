"""The case of 2011 under HTCondor without control groups, HTCondor as it is, and condor-ledge."""

from __future__ import annotations

import pytest

from tests.pool import mpd_case
from tests.pool.condor import Pool
from tests.pool.mpd_case import CGROUPS_OFF, CPU_SECONDS_AFTER, HTCONDOR, LEDGE, Observation

# The starter kills the control group within this time; looked at under emulation.
KILLED_WITHIN_SECONDS = 3.0


@pytest.fixture(scope="module")
def cgroups_off(pool: Pool) -> Observation:
    return mpd_case.observe(pool, CGROUPS_OFF)


@pytest.fixture(scope="module")
def htcondor(pool: Pool) -> Observation:
    return mpd_case.observe(pool, HTCONDOR)


@pytest.fixture(scope="module")
def ledge(pool: Pool, _installed: None) -> Observation:
    return mpd_case.observe(pool, LEDGE)


def test_without_cgroups_the_daemon_works_on_and_costs_nothing(cgroups_off: Observation) -> None:
    assert cgroups_off.watch["seen"]
    assert cgroups_off.watch["left_still"]
    assert cgroups_off.worker["after"] >= CPU_SECONDS_AFTER
    assert cgroups_off.remote_cpu_seconds() < cgroups_off.worker["total"] / 2


def test_without_cgroups_the_environment_tells_what_is_the_jobs(pool: Pool) -> None:
    seen = mpd_case.observe(pool, CGROUPS_OFF, keep_environment=True)
    assert not seen.watch["left_still"]
    assert seen.watch["left_seconds"] < KILLED_WITHIN_SECONDS


def test_htcondor_alone_kills_the_daemon_but_lets_everybody_command_it(
    htcondor: Observation,
) -> None:
    assert htcondor.watch["left_seconds"] < KILLED_WITHIN_SECONDS
    assert not htcondor.watch["left_still"]
    assert any(line.startswith("reached ") for line in htcondor.from_node)
    assert any(line.startswith("reached ") for line in htcondor.from_job)
    assert "bob" in htcondor.processes and "root" in htcondor.processes


def test_htcondor_alone_counts_whole_seconds_with_cgroups(htcondor: Observation) -> None:
    assert htcondor.remote_cpu_seconds() == int(htcondor.remote_cpu_seconds())
    assert htcondor.ledge_cpu_seconds() is None
    assert htcondor.remote_cpu_seconds() >= htcondor.worker["total"] - 2


def test_ledge_lets_nobody_near_the_daemon(ledge: Observation) -> None:
    assert ledge.from_node == ["found none"]
    assert ledge.from_job == ["found none"]


def test_ledge_shows_the_job_itself_alone(ledge: Observation) -> None:
    assert set(ledge.processes) == {"alice"}
    assert len(ledge.processes) <= 6


def test_ledge_ends_the_daemon_with_the_job(ledge: Observation) -> None:
    assert ledge.watch["seen"]
    assert not ledge.watch["left_still"]
    # Between the end of the main process and the kernel's killing of its PID namespace.
    assert ledge.watch["left_seconds"] < 0.5
    assert ledge.worker["after"] < 0.5


def test_ledge_counts_the_daemon(ledge: Observation) -> None:
    counted = ledge.ledge_cpu_seconds()
    own, slot = ledge.sampled_cpu_seconds("own"), ledge.sampled_cpu_seconds("slot")
    assert counted is not None and own is not None and slot is not None
    assert counted >= ledge.worker["total"]
    # The last look is a little before the end; the slot has paid for the wrapper as well.
    assert counted == pytest.approx(own, rel=0.1)
    assert own <= slot


def test_table_fits_a_terminal(
    cgroups_off: Observation, htcondor: Observation, ledge: Observation
) -> None:
    text = mpd_case.table([cgroups_off, htcondor, ledge])
    assert max(map(len, text.splitlines())) <= mpd_case.WIDTH
