"""What stands in the job ad for a usage."""

from __future__ import annotations

import re

import pytest

from ledge import __version__
from ledge.attributes import isolation_attributes, usage_attributes
from ledge.publish.starter import REPORTED
from ledge.usage import Usage, usage_of_cgroup2, usage_of_processes
from tests.unit.test_usage import FIGURES, TEXTS


def test_the_prefix_is_one_that_the_starter_lets_pass() -> None:
    assert REPORTED.startswith("Chirp")  # the default of CHIRP_DELAYED_UPDATE_PREFIX


def test_every_figure_stands_under_its_name() -> None:
    attributes = usage_attributes(usage_of_cgroup2(TEXTS))
    tracking = attributes.pop("Tracking")
    assert attributes == pytest.approx(FIGURES)
    assert tracking == "cgroup"


def test_what_was_not_measured_is_not_there_and_a_reason_is() -> None:
    attributes = usage_attributes(usage_of_cgroup2({**TEXTS, "memory.peak": None}))
    assert "MemoryPeakBytes" not in attributes
    assert "MemoryPeakBytes" in str(attributes["Unmeasured"])
    assert "5.19" in str(attributes["Unmeasured"])


def test_nothing_measured() -> None:
    attributes = usage_attributes(Usage("none"))
    assert attributes == {"Tracking": "none"}


def test_the_attributes_are_few_enough_and_their_names_are_names() -> None:
    attributes = {
        **usage_attributes(usage_of_cgroup2({})),
        **usage_attributes(usage_of_cgroup2(TEXTS)),
        **isolation_attributes(("pid",), "why"),
    }
    assert len(attributes) < 100  # CHIRP_DELAYED_UPDATE_MAX_ATTRS
    for name in attributes:
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)


def test_isolation() -> None:
    attributes = isolation_attributes(("user", "pid", "mount"))
    assert attributes == {"Version": __version__, "Isolation": "user,pid,mount"}


def test_no_isolation_and_why() -> None:
    attributes = isolation_attributes((), "cannot do it")
    assert attributes["Isolation"] == "none"
    assert attributes["IsolationReason"] == "cannot do it"


def test_cpu_time_alone() -> None:
    attributes = usage_attributes(usage_of_processes((1.0, 2.0)))
    assert (attributes["CpuUserSeconds"], attributes["CpuSystemSeconds"]) == (1.0, 2.0)
    assert attributes["Tracking"] == "processes"
