"""Who is tried when, and what first."""

from __future__ import annotations

import pytest

from ledge.recorder.schedule import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    Destination,
    Schedule,
    deliverable,
    forgettable,
    superseded,
)
from ledge.recorder.spool import JOB, LAST, LIVE, START, Name

ONE, OTHER = Destination("one", "1.0", "slot1"), Destination("other", "1.0", "slot2")
JOBS = {"1-1": ONE, "2-1": ONE, "3-1": OTHER}


def test_a_schedd_that_never_failed_may_be_tried() -> None:
    schedule = Schedule()
    assert schedule.may_try("one", 0.0)
    assert schedule.seconds_until_due(0.0, ["one"]) is None


@pytest.mark.parametrize("lot", [0.0, 0.5, 1.0])
def test_each_failure_doubles_the_pause_up_to_the_longest(lot: float) -> None:
    schedule = Schedule(lambda: lot)
    pauses = [schedule.failed("one", 0.0) for _ in range(40)]
    share = 0.5 + 0.5 * lot
    assert pauses[:3] == [SHORTEST_SECONDS * share * factor for factor in (1, 2, 4)]
    assert pauses[-1] == LONGEST_SECONDS * share


def test_a_schedd_is_left_in_peace_and_the_others_are_not() -> None:
    schedule = Schedule(lambda: 1.0)
    pause = schedule.failed("one", 100.0)
    assert not schedule.may_try("one", 100.0 + pause / 2)
    assert schedule.may_try("one", 100.0 + pause)
    assert schedule.may_try("other", 100.0)
    assert schedule.seconds_until_due(100.0, ["one", "other"]) == pause
    assert schedule.seconds_until_due(100.0, ["other"]) is None


def test_success_ends_the_peace() -> None:
    schedule = Schedule(lambda: 1.0)
    schedule.failed("one", 0.0)
    schedule.failed("one", 0.0)
    schedule.worked("one")
    assert schedule.may_try("one", 0.0)
    assert schedule.failed("one", 0.0) == SHORTEST_SECONDS


def test_the_last_figures_go_first() -> None:
    names = [Name("1-1", LIVE), Name("2-1", LAST), Name("3-1", LIVE)]
    ordered = deliverable(names, JOBS, Schedule(), 0.0, {})
    assert ordered == [Name("2-1", LAST), Name("1-1", LIVE), Name("3-1", LIVE)]


def test_what_failed_before_comes_last_and_keeps_nothing_else_back() -> None:
    names = [Name("1-1", LAST), Name("2-1", LIVE)]
    ordered = deliverable(names, JOBS, Schedule(), 0.0, {names[0]: 1})
    assert ordered == [names[1], names[0]]


def test_nothing_of_unknown_jobs_and_of_schedds_in_peace() -> None:
    schedule = Schedule()
    schedule.failed("one", 0.0)
    names = [Name("1-1", LAST), Name("3-1", START), Name("3-1", LAST), Name("9-1", LAST)]
    assert deliverable(names, JOBS, schedule, 0.0, {}) == [Name("3-1", LAST)]


def test_figures_of_a_running_job_give_way_to_the_last_ones() -> None:
    names = [Name("1-1", LIVE), Name("1-1", LAST), Name("2-1", LIVE), Name("2-1", START)]
    assert superseded(names) == [Name("1-1", LIVE)]
    assert Name("1-1", LIVE) not in deliverable(names, JOBS, Schedule(), 0.0, {})


def test_a_job_is_forgotten_when_it_has_ended_and_all_is_delivered() -> None:
    names = [Name("1-1", JOB), Name("2-1", JOB), Name("2-1", LAST), Name("3-1", JOB)]
    assert forgettable(names, lambda key: key == "3-1") == [Name("1-1", JOB)]
