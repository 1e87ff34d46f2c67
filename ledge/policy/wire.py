"""The messages between the daemon and the evaluator: lengths in front, decisions as JSON.

Neither side believes more of the other's words than their format: what comes back is checked like
a plan from a file.
"""

from __future__ import annotations

import json
import struct
from typing import NamedTuple

from ledge.errors import PlanError
from ledge.plan.document import plan_document, read_plan
from ledge.policy.decision import Decision, refusal

LARGEST_ANSWER = 1 << 18

_REQUEST = struct.Struct("=QII")
_ANSWER = struct.Struct("=QI")
_POLICY = struct.Struct("=?II")
_LENGTH = struct.Struct("=I")


class Request(NamedTuple):
    """Decide about a job; the answer has the same token."""

    token: int
    job_ad: bytes
    machine_ad: bytes

    def packed(self) -> bytes:
        """As it is sent."""
        header = _REQUEST.pack(self.token, len(self.job_ad), len(self.machine_ad))
        return header + self.job_ad + self.machine_ad


def take_request(buffer: bytearray) -> Request | None:
    """Remove the first request from what was received; None if it is not complete."""
    if len(buffer) < _REQUEST.size:
        return None
    token, job_length, machine_length = _REQUEST.unpack_from(buffer)
    middle = _REQUEST.size + job_length
    end = middle + machine_length
    if len(buffer) < end:
        return None
    request = Request(token, bytes(buffer[_REQUEST.size : middle]), bytes(buffer[middle:end]))
    del buffer[:end]
    return request


def packed_answer(token: int, answer: bytes) -> bytes:
    """An answer as it is sent."""
    return _ANSWER.pack(token, len(answer)) + answer


def take_answer(buffer: bytearray) -> tuple[int, bytes] | None:
    """Remove the first answer; None if it is not complete. Raises ValueError if it is too long."""
    if len(buffer) < _ANSWER.size:
        return None
    token, length = _ANSWER.unpack_from(buffer)
    if length > LARGEST_ANSWER:
        raise ValueError("an answer that is too long")
    end = _ANSWER.size + length
    if len(buffer) < end:
        return None
    answer = bytes(buffer[_ANSWER.size : end])
    del buffer[:end]
    return token, answer


def packed_policy(document: bytes | None, origin: str) -> bytes:
    """A policy to be put in force; None is the built-in one."""
    name = origin.encode("utf-8", "replace")
    header = _POLICY.pack(document is not None, len(name), len(document or b""))
    return header + name + (document or b"")


def take_policy(buffer: bytearray) -> tuple[bytes | None, str] | None:
    """Remove a policy from what was received; None if it is not complete."""
    if len(buffer) < _POLICY.size:
        return None
    exists, name_length, length = _POLICY.unpack_from(buffer)
    middle = _POLICY.size + name_length
    if len(buffer) < middle + length:
        return None
    name = buffer[_POLICY.size : middle].decode("utf-8", "replace")
    document = bytes(buffer[middle : middle + length])
    del buffer[: middle + length]
    return document if exists else None, name


def packed_text(text: str) -> bytes:
    """A text, as answer to a policy."""
    content = text.encode("utf-8", "replace")
    return _LENGTH.pack(len(content)) + content


def take_text(buffer: bytearray) -> str | None:
    """Remove a text from what was received; None if it is not complete."""
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if len(buffer) < _LENGTH.size + length:
        return None
    text = buffer[_LENGTH.size : _LENGTH.size + length].decode("utf-8", "replace")
    del buffer[: _LENGTH.size + length]
    return text


def written_decision(decision: Decision) -> bytes:
    """A decision as JSON; the document of the plan is a text in it."""
    plan = None if decision.plan is None else json.dumps(plan_document(decision.plan))
    return json.dumps({**decision._asdict(), "plan": plan}).encode()


def read_decision(answer: bytes) -> Decision:
    """A decision from JSON; what is none is a refusal."""
    try:
        document = json.loads(answer)
        plan, reason = document["plan"], document["refusal"]
        origins, notes = document["origins"], document["notes"]
        if isinstance(reason, str) and plan is None:
            return refusal(reason)
        if reason is None and isinstance(plan, str) and _texts([*origins, *origins.values()]):
            return _accepted(plan, origins, notes)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError, PlanError) as error:
        return refusal(f"the evaluator's answer is no decision: {error!r}")
    return refusal("the evaluator's answer is no decision")


def _accepted(plan: str, origins: dict[str, str], notes: list[str]) -> Decision:
    if not isinstance(notes, list) or not _texts(notes):
        raise ValueError("notes")
    return Decision(read_plan(plan.encode(), "plan"), None, origins, tuple(notes))


def _texts(values: list[str]) -> bool:
    return all(isinstance(value, str) and value.isprintable() for value in values)
