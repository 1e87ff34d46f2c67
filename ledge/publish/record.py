"""A job's attributes as one ClassAd attribute that is a ClassAd itself: a record.

One attribute is one thing to protect, to copy and to change at once; condor_q, condor_history and
expressions reach into it: Ledge.MemoryPeakBytes (HTCondor manual, "ClassAd Syntax").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ledge.publish.chirp import expression

if TYPE_CHECKING:
    from ledge.classads import Value

# Where a reading comes from: its attribute in the record is READING.
READING = "Reading"
RUNNING = "running"  # the job runs; the next one will tell more
EXACT = "exact"  # when the job's last process had gone
SAMPLED = "sampled"  # the job has ended, but could not be read then: the last reading before
AGE = "ReadingAgeSeconds"  # of a sampled reading when the job ended
TAKEN = "Taken"  # when, in seconds since 1970


def record(attributes: Mapping[str, Value]) -> str:
    """The expression of a record; long strings are cut, as they are for Chirp."""
    members = [f"{name} = {expression(value)}" for name, value in sorted(attributes.items())]
    return "[ " + "; ".join(members) + " ]"
