"""What stands in the job ad for a usage."""

from __future__ import annotations

import re
from pathlib import Path

import classad2
import pytest

from ledge import __version__
from ledge.job import logical_io
from ledge.publish.chirp import expression
from ledge.publish.starter import NAMES, REPORTED
from ledge.usage.attributes import isolation_attributes, usage_attributes
from ledge.usage.of_cgroup2 import (
    FILES_OF_NOW,
    add_peak_of_samples,
    usage_of_cgroup2,
    usage_of_now,
)
from ledge.usage.of_processes import usage_of_processes
from ledge.usage.usage import Usage, add_logical_io
from tests.unit import captured
from tests.unit.test_tracking import ENDING, SEEN
from tests.unit.test_usage import FIGURES, TEXTS


def test_the_prefix_is_one_that_the_starter_lets_pass() -> None:
    assert REPORTED.startswith("Chirp")  # the default of CHIRP_DELAYED_UPDATE_PREFIX


def test_every_name_of_the_reference_is_one_that_a_report_may_have() -> None:
    page = (Path(__file__).parents[2] / "docs/attributes.md").read_text()
    lines = page.splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    running = [line for line in lines if "MemoryCurrentBytes" in line or "MemorySockBytes" in line]
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", " ".join(cells + running)))
    assert set(NAMES) == named
    assert set(FIGURES) <= named
    assert len(NAMES) < 100  # CHIRP_DELAYED_UPDATE_MAX_ATTRS; the job sets some, too


def test_every_figure_stands_under_its_name() -> None:
    attributes = usage_attributes(usage_of_cgroup2(TEXTS))
    names = ("Tracking", "OomLevel", "SuggestedRequestMemoryMiB")
    told = [attributes.pop(name) for name in names]
    assert attributes == pytest.approx(FIGURES)
    assert told == ["cgroup", "slice", 1536]


def test_what_was_not_measured_is_not_there_and_a_reason_is() -> None:
    attributes = usage_attributes(usage_of_cgroup2({**TEXTS, "memory.peak": None}))
    assert "MemoryPeakBytes" not in attributes
    assert "MemoryPeakBytes" in str(attributes["Unmeasured"])
    assert "5.19" in str(attributes["Unmeasured"])


def test_what_is_sampled_or_incomplete_says_so() -> None:
    usage = Usage("cgroup")
    add_peak_of_samples(usage, captured.MEMORY_STAT, "highest of 3 readings")
    add_logical_io(usage, (1, 2, False))
    attributes = usage_attributes(usage)
    assert attributes["MemoryAnonShmemPeakBytes"] == 20840448
    assert attributes["Sampled"] == (
        "MemoryAnonShmemPeakBytes, Memory*AtPeakBytes: highest of 3 readings"
    )
    assert attributes["LogicalReadBytes"] == 1
    assert "LogicalReadBytes, LogicalWriteBytes: " in str(attributes["Incomplete"])


def test_of_one_device_the_totals_say_all() -> None:
    assert "BlockDevices" not in usage_attributes(usage_of_cgroup2(TEXTS))


def test_devices_as_condor_q_would_be_asked_for_them() -> None:
    texts = {**TEXTS, "io.stat": captured.IO_STAT_OF_MANY_DEVICES}
    names = {b"8:0": "sda", b"8:16": "dm-1"}
    attributes = usage_attributes(usage_of_cgroup2(texts, frozenset([b"253:0"]), names))
    told = expression(attributes["BlockDevices"])
    ad = classad2.parseOne(f"ChirpLedgeBlockDevices = {told}\n")
    ad["Sda"] = classad2.ExprTree("ChirpLedgeBlockDevices.sda.rbytes")
    ad["Dm"] = classad2.ExprTree("ChirpLedgeBlockDevices.'dm-1'.dios")
    assert (ad.eval("Sda"), ad.eval("Dm")) == (1459200, 3021)


def test_more_devices_than_the_starter_would_take() -> None:
    line = b"8:%d rbytes=%d wbytes=%d rios=%d wios=%d dbytes=%d dios=%d\n"
    most = 2**64 - 1
    lines = [line % (minor, *[most - minor] * 6) for minor in range(20)]
    attributes = usage_attributes(usage_of_cgroup2({**TEXTS, "io.stat": b"".join(lines)}))
    devices = attributes["BlockDevices"]
    assert isinstance(devices, dict)
    assert list(devices) == ["8:0", "8:1", "8:2", "8:3"]  # those with the most traffic
    assert len(expression(devices)) < 993


def test_every_attribute_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs/attributes.md").read_text()
    sampled = Usage("cgroup")
    add_peak_of_samples(sampled, captured.MEMORY_STAT, "")
    now = usage_of_now(dict.fromkeys(FILES_OF_NOW))
    processes = usage_of_processes(ENDING, SEEN)
    processes.figures.pop("all else")
    told = {*FIGURES, *sampled.figures, *now.figures, *logical_io.FIGURES, *processes.figures}
    told |= {"BlockDevices", "OomLevel", "Incomplete", "Sampled", "Unmeasured", "Tracking"}
    assert {name for name in told if f"`{name}`" not in page} == set()


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
    assert attributes == {
        "Version": __version__,
        "Isolation": "user,pid,mount",
        "Mounts": "none",
        "Network": "host",
    }


def test_no_isolation_and_why() -> None:
    attributes = isolation_attributes((), "cannot do it")
    assert attributes["Isolation"] == "none"
    assert attributes["IsolationReason"] == "cannot do it"


def test_without_a_control_group() -> None:
    attributes = usage_attributes(usage_of_processes(ENDING, SEEN))
    assert (attributes["CpuUserSeconds"], attributes["CpuSystemSeconds"]) == (1.5, 0.25)
    assert attributes["Tracking"] == "processes"
