"""A record is one ClassAd attribute, whatever its strings hold; read back by HTCondor's library."""

from __future__ import annotations

import classad2
import pytest

from ledge.publish.record import record


def test_a_record_is_read_back_as_it_was() -> None:
    attributes: dict[str, int | float | str] = {
        "CpuUserSeconds": 1.25,
        "MemoryPeakBytes": 123456789012,
        "Isolation": "pid,mount",
    }
    ad = classad2.ClassAd(f"[ Ledge = {record(attributes)} ]")
    assert dict(ad.eval("Ledge")) == attributes


@pytest.mark.parametrize("text", ['a "b"', "a\\", "a\nb\tc", "]; X = 1; [", "ü€", ""])
def test_a_string_stays_a_string(text: str) -> None:
    ad = classad2.ClassAd(f"[ Ledge = {record({'Reason': text, 'Z': 1})} ]")
    assert dict(ad.eval("Ledge")) == {"Reason": text, "Z": 1}


def test_nothing() -> None:
    assert dict(classad2.ClassAd(f"[ Ledge = {record({})} ]").eval("Ledge")) == {}
