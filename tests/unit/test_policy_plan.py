"""Limits in the document of a plan, and the way there and back."""

from __future__ import annotations

import json

import pytest

from ledge.errors import PlanError
from ledge.plan.document import LIMIT_BOUNDS, plan_document, read_plan
from ledge.plan.plan import Mount, Plan


def read(limits: object) -> Plan:
    return read_plan(json.dumps({"version": 1, "limits": limits}).encode(), "plan.json")


def test_no_limits_unless_stated() -> None:
    assert Plan().limits.wanted() == read({}).limits.wanted() == ()


def test_every_limit_can_be_stated() -> None:
    values = {name: int(smallest) + 1 for name, (smallest, _) in LIMIT_BOUNDS.items()}
    limits = read(values).limits
    assert {name: getattr(limits, name) for name in limits.wanted()} == values
    assert set(values) == set(limits.__slots__)


@pytest.mark.parametrize("name", LIMIT_BOUNDS)
def test_bounds(name: str) -> None:
    smallest, largest = LIMIT_BOUNDS[name]
    for value in (smallest, largest):
        assert getattr(read({name: value}).limits, name) == value
    wrongs: list[object] = [smallest - 1, largest + 1, -1, True, None, "1", [1], 1e300, {}]
    for wrong in wrongs:
        with pytest.raises(PlanError, match=f"plan.json: limits: {name}: expected a "):
            read({name: wrong})
    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(PlanError, match=name):
            read_plan(b'{"version": 1, "limits": {"%s": %s}}' % (name.encode(), text.encode()), "p")


@pytest.mark.parametrize("name", sorted(set(LIMIT_BOUNDS) - {"cpu_max_cores"}))
def test_all_but_cores_are_whole_numbers(name: str) -> None:
    with pytest.raises(PlanError, match="expected a whole number from"):
        read({name: LIMIT_BOUNDS[name][0] + 1.0})
    assert read({"cpu_max_cores": 1.5}).limits.cpu_max_cores == 1.5


@pytest.mark.parametrize("limits", [[], None, "none", 5])
def test_what_is_no_object(limits: object) -> None:
    with pytest.raises(PlanError, match="limits: expected an object"):
        read(limits)


def test_an_unknown_limit() -> None:
    with pytest.raises(PlanError, match="limits: unknown key 'pids'; known are pids_max"):
        read({"pids": 5})


def test_the_document_of_a_plan_reads_as_the_same_plan() -> None:
    plan = Plan()
    plan.namespaces = ("mount", "uts")
    plan.mounts = (
        Mount("private", "/tmp"),
        Mount("bind", "/mnt", "/data", True),
        Mount("bind", "/srv", "/data", nosuid=True),
        Mount("tmpfs", "/scratch", size_bytes=1 << 20, inodes=5),
        Mount("overlay", "/site", "/software"),
    )
    plan.cgroup, plan.on_failure = "none", "run"
    plan.limits.pids_max, plan.limits.cpu_max_cores = 5, 1.5
    for original in (Plan(), plan):
        document = plan_document(original)
        again = read_plan(json.dumps(document).encode(), "plan.json")
        assert plan_document(again) == document
    assert again.mounts[1].source == "/data" and again.mounts[1].read_only
    for mount, other in zip(plan.mounts, again.mounts):
        assert [getattr(mount, name) == getattr(other, name) for name in Mount.__slots__] == [
            True
        ] * len(Mount.__slots__)
    assert again.limits.wanted() == ("pids_max", "cpu_max_cores")
