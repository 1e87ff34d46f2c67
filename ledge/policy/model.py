"""A policy that has been checked: what ledge/policy/document.py reads and decision.py applies."""

from __future__ import annotations

from typing import NamedTuple

from ledge.policy.expressions import Expression
from ledge.policy.keys import Value

BUILT_IN = "built-in"
DEFAULTS = "defaults"

# Settings that are no key of ledge/policy/keys.py
MOUNTS = "mounts"
REFUSE = "refuse"

WITHOUT_DAEMON = ("hold", "requeue", "run")


class MountSetting(NamedTuple):
    """A mount whose paths and amounts may be expressions."""

    kind: str
    target: str | Expression
    source: str | Expression | None
    read_only: bool
    nosuid: bool = False
    size_bytes: Value | Expression = None
    inodes: Value | Expression = None


class Setting(NamedTuple):
    """What the policy says of a key, and where: a literal value or an expression."""

    place: str
    value: Value | Expression


class Mounts(NamedTuple):
    """What it says of the mounts."""

    place: str
    mounts: tuple[MountSetting, ...]


class Request(NamedTuple):
    """What a job may ask for: by which attribute, and within which bounds.

    `offered` are the mounts that a job may name, `at_most` bound those that it may write itself.
    """

    place: str
    attribute: str
    bounds: dict[str, Setting]
    offered: dict[str, Mounts]
    at_most: tuple[MountSetting, ...] = ()


class Rule(NamedTuple):
    """What holds for the jobs that match; a request that is None takes an earlier one back."""

    name: str
    place: str
    match: Expression | None
    settings: dict[str, Setting | Mounts]
    requests: dict[str, Request | None]

    def origin(self, place: str) -> str:
        """How explanations name it, and a place in it."""
        return f"{self.name} ({place})"


class Policy(NamedTuple):
    """Later rules win over earlier ones, and all over the defaults.

    `without_daemon` is what hooks and wrapper do when ledged does not answer.
    """

    without_daemon: str
    defaults: Rule
    rules: tuple[Rule, ...]


def built_in_policy() -> Policy:
    """What holds where there is no policy: the built-in plan, without any limit."""
    return Policy("hold", Rule(DEFAULTS, "", None, {}, {}), ())
