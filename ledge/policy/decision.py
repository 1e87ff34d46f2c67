"""A policy, a job and its slot to a plan, or to a refusal that says why.

Whatever goes wrong here is a refusal: no job starts because an expression had no value, and none
without a limit that the policy meant it to have.
"""

from __future__ import annotations

import difflib
import json
from typing import Callable, NamedTuple

from ledge.errors import PlanError
from ledge.plan.document import plan_document, read_mount, read_plan
from ledge.plan.plan import Mount, Plan
from ledge.policy.asked_mounts import bounded, mount_asked, replacing, shown, words_asked
from ledge.policy.errors import ExpressionError, Unfit
from ledge.policy.expressions import UNDEFINED, Expression, Scope, described
from ledge.policy.keys import AMOUNTS, KEYS, Key, Value, attribute_of
from ledge.policy.model import (
    BUILT_IN,
    MOUNTS,
    REFUSE,
    Mounts,
    MountSetting,
    Policy,
    Request,
    Rule,
    Setting,
)
from ledge.policy.quantities import Share
from ledge.policy.terms import is_of_the_system, within

LONGEST_REFUSAL = 1000
# What marks the origin of a value that the job has asked for.
OF_THE_JOB = " of the job"

_ADMINS = "if the job asks for nothing odd, this node's administrators can correct the policy"
_MEGABYTE = 1 << 20


class Decision(NamedTuple):
    """Either a plan or a refusal.

    `origins` names the rule behind each value of the plan; `notes` are for explanations.
    """

    plan: Plan | None
    refusal: str | None
    origins: dict[str, str]
    notes: tuple[str, ...]


class _Refused(Exception):
    """The words of a refusal."""


def refusal(text: str) -> Decision:
    """The decision not to run a job, with the reason on one line that is not too long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return Decision(None, line[:LONGEST_REFUSAL], {}, ())


def decide(
    policy: Policy,
    job_ad: bytes,
    machine_ad: bytes,
    progress: Callable[[str], object] = lambda where: None,
) -> Decision:
    """What the policy wants for a job, the ads being in the old ("long") format.

    `progress` is told what is evaluated next, for when that never ends. Raises nothing that an ad
    could cause, except MemoryError.
    """
    try:
        progress("reading the ads")
        return _Deliberation(policy, Scope(job_ad, machine_ad), progress).decision()
    except ExpressionError as error:
        return refusal(f"{error}; this node's policy cannot be applied without it")
    except _Refused as refused:
        return refusal(str(refused))


class _Deliberation:
    """One decision in the making."""

    def __init__(
        self, policy: Policy, scope: Scope, progress: Callable[[str], object]
    ) -> None:
        self.scope = scope
        self.progress = progress
        self.notes: list[str] = []
        self.settings: dict[str, tuple[Rule, Setting | Mounts]] = {}
        self.requests: dict[str, tuple[Rule, Request | None]] = {}
        for rule in (policy.defaults, *policy.rules):
            if rule.match is None or self.matches(rule, rule.match):
                self.settings.update({key: (rule, value) for key, value in rule.settings.items()})
                self.requests.update({key: (rule, value) for key, value in rule.requests.items()})

    def decision(self) -> Decision:
        """The plan, each key of which has its origin. Raises _Refused."""
        self.check_refusal()
        plan, origins = Plan(), dict.fromkeys((*KEYS, MOUNTS), BUILT_IN)
        for key, (rule, setting) in self.settings.items():
            if isinstance(setting, Mounts):
                plan.mounts = self.mounts(rule, setting)
            else:
                KEYS[key].put(plan, self.value(rule, setting, KEYS[key]))
            origins[key] = rule.origin(setting.place)
        for key, (rule, request) in self.requests.items():
            if request is not None and self.grant(rule, request, key, plan):
                allowing = rule.origin(request.place)
                origins[key] = f"{request.attribute}{OF_THE_JOB}, which {allowing} lets it set"
        self.note_ignored()
        _check(plan)
        return Decision(plan, None, origins, tuple(self.notes))

    def matches(self, rule: Rule, match: Expression) -> bool:
        """Whether a rule is for this job; undefined is false and numbers count, as in START."""
        value = self.evaluated(rule, rule.place, "match", match)
        if value is UNDEFINED:
            names = self.scope.undefined_in(match)
            self.notes.append(f"rule {rule.name} does not match: {names or 'it'} is undefined")
            return False
        if not isinstance(value, (bool, int, float)):
            problem = f"{match.shown()} is {described(value)}; expected true or false"
            raise _policy_error(rule, rule.place, "match", problem)
        return bool(value)

    def check_refusal(self) -> None:
        """Raises _Refused with the admin's reason if there is one."""
        if REFUSE not in self.settings:
            return
        rule, (place, expression) = self.settings.pop(REFUSE)
        assert isinstance(expression, Expression)
        value = self.evaluated(rule, place, REFUSE, expression)
        if value is UNDEFINED or value is False:
            return
        if isinstance(value, str) and value.strip():
            raise _Refused(value)
        if value is True:
            raise _Refused(f"this node does not run such jobs (rule {rule.name} of its policy)")
        expected = "a reason, or false or undefined for none"
        problem = f"{expression.shown()} is {described(value)}; expected {expected}"
        raise _policy_error(rule, place, REFUSE, problem)

    def evaluated(self, rule: Rule, place: str, key: str, expression: Expression) -> object:
        """The value of an expression, which may be UNDEFINED."""
        self.progress(f"{place}: {_named(rule)}{key}: {expression.shown()}")
        try:
            return self.scope.evaluate(expression)
        except ExpressionError as error:
            raise _policy_error(rule, place, key, f"{expression.shown()} {error}") from None

    def defined(
        self, rule: Rule, place: str, key: str, expression: Expression, expected: str
    ) -> object:
        """The value of an expression that must have one."""
        value = self.evaluated(rule, place, key, expression)
        if value is UNDEFINED:
            names = self.scope.undefined_in(expression)
            because = f", for {names} is" if names not in ("", expression.text) else ""
            problem = f"{expression.shown()} is undefined{because}; expected {expected}"
            raise _policy_error(rule, place, key, problem)
        return value

    def value(self, rule: Rule, setting: Setting, key: Key) -> Value:
        """The value of a setting, an expression evaluated and a percentage worked out."""
        if not isinstance(setting.value, Expression):
            return self.amount(rule, setting.place, key, setting.value)
        expression = setting.value
        result = self.defined(rule, setting.place, key.name, expression, key.expected)
        try:
            return self.amount(rule, setting.place, key, key.converted(result))
        except Unfit as unfit:
            circumstances = self.scope.circumstances(expression)
            problem = f"{expression.shown()} is {described(result)}{circumstances}"
            problem += f"; expected {unfit}"
            raise _policy_error(rule, setting.place, key.name, problem) from None

    def amount(self, rule: Rule, place: str, key: Key, value: Value) -> Value:
        """The value, or the number of bytes that a percentage is of the slot's Memory."""
        if not isinstance(value, Share):
            return value
        memory = self.defined(rule, place, key.name, Expression("MY.Memory"), "megabytes")
        if isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0:
            problem = f"MY.Memory is {described(memory)}; expected megabytes, for {value.text}"
            raise _policy_error(rule, place, key.name, problem)
        try:
            return key.converted(value.of(memory * _MEGABYTE))
        except Unfit as unfit:
            problem = f"{value.text} of {memory}M is out of bounds; expected {unfit}"
            raise _policy_error(rule, place, key.name, problem) from None

    def mounts(self, rule: Rule, setting: Mounts) -> tuple[Mount, ...]:
        return tuple(self.mount(rule, setting.place, mount) for mount in setting.mounts)

    def mount(self, rule: Rule, place: str, setting: MountSetting) -> Mount:
        document: dict[str, object] = {"kind": setting.kind}
        document["target"] = self.path(rule, place, setting.target)
        if setting.source is not None:
            document["source"] = self.path(rule, place, setting.source)
        if setting.kind == "bind":
            document.update(read_only=setting.read_only, nosuid=setting.nosuid)
        for name, key in AMOUNTS.items():
            amount = self.value(rule, Setting(place, getattr(setting, name)), key)
            document.update({name: amount} if amount is not None else {})
        try:
            mount = read_mount(document, MOUNTS)
        except PlanError as error:
            raise _policy_error(rule, place, MOUNTS, str(error)) from None
        if isinstance(setting.target, Expression) and is_of_the_system(mount.target):
            problem = f"{setting.target.shown()} is {mount.target:.80}"
            problem += "; a directory of the system must be written out"
            raise _policy_error(rule, place, MOUNTS, problem)
        return mount

    def path(self, rule: Rule, place: str, part: str | Expression) -> object:
        if isinstance(part, str):
            return part
        return self.defined(rule, place, MOUNTS, part, "an absolute path")

    def grant(self, rule: Rule, request: Request, key: str, plan: Plan) -> bool:
        """Put into the plan what the job asks for; False if it does not ask."""
        asked = self.scope.job_expression(request.attribute)
        if asked is None or asked.lower() == "undefined":
            return False
        found = self.asked(request.attribute)
        if key == MOUNTS:
            self.grant_mounts(rule, request, plan, found)
            return True
        try:
            value = self.amount(rule, request.place, KEYS[key], KEYS[key].converted(found))
        except Unfit as unfit:
            raise _job_error(request.attribute, found, f"expected {unfit}") from None
        for bound, setting in request.bounds.items():
            self.check_bound(rule, request.attribute, KEYS[key], value, bound, setting)
        KEYS[key].put(plan, value)
        return True

    def asked(self, attribute: str) -> object:
        """The value of the job's attribute, which must have one."""
        self.progress(f"{attribute} of the job")
        expression = Expression(f"TARGET.{attribute}")
        try:
            found = self.scope.evaluate(expression)
        except ExpressionError as error:
            shown = self.scope.job_expression(attribute)
            problem = f"{attribute} of the job, {shown}, {error}"
            raise _Refused(f"{problem}; correct it or leave it out") from None
        if found is UNDEFINED:
            raise _job_error(attribute, found, "correct it or leave it out")
        return found

    def check_bound(
        self, rule: Rule, attribute: str, key: Key, value: Value, bound: str, setting: Setting
    ) -> None:
        """Raises _Refused if the job asks for more than it may, or less than it must."""
        limit = self.value(rule, setting, key)
        if not key.within(value, bound, limit):
            wanted = f"this node allows {bound.replace('_', ' ')} {key.shown(limit)}"
            raise _Refused(f"{attribute} of the job is {key.shown(value)}; {wanted}")

    def grant_mounts(self, rule: Rule, request: Request, plan: Plan, found: object) -> None:
        """Add the mounts that a job names or writes. Raises _Refused."""
        attribute, origin = request.attribute, rule.origin(request.place)
        try:
            for word in words_asked(found, request.offered):
                if word in request.offered:
                    plan.mounts += self.mounts(rule, request.offered[word])
                    continue
                mount = self.written(rule, request, word) if ":" in word else None
                if mount is None:
                    problem = f"{attribute} of the job asks for {word:.200}"
                    raise _Refused(f"{problem}; this node {_allowed(request)} ({origin})")
                plan.mounts = replacing(plan.mounts, mount)
        except Unfit as unfit:
            raise _job_error(attribute, found, f"expected {unfit} ({origin})") from None

    def written(self, rule: Rule, request: Request, word: str) -> Mount | None:
        """The mount that a job writes, if it may have it. Raises Unfit if it is none."""
        place = request.place
        mount = mount_asked(word, lambda key, value: self.amount(rule, place, key, value))
        for setting in request.at_most:
            if bounded(mount, within(setting), self.mount(rule, place, setting)):
                return mount
        return None

    def note_ignored(self) -> None:
        """A note on attributes that ask for something, but that the policy gives no meaning."""
        meant = {
            request.attribute.lower(): request.attribute
            for _, request in self.requests.values()
            if request is not None
        }
        known = {attribute_of(key).lower() for key in (*KEYS, MOUNTS)} | set(meant)
        for name in self.scope.job_attributes():
            if not name.lower().startswith("ledge") or name.lower() in meant:
                continue
            close = difflib.get_close_matches(name.lower(), known, 1, 0.85)
            if close:
                hint = f"; did the job mean {meant[close[0]]}?" if close[0] in meant else ""
                note = f"{name} of the job is ignored: the policy lets no job set it{hint}"
                self.notes.append(note)


def _named(rule: Rule) -> str:
    return "defaults: " if rule.match is None else f"rule {rule.name}: "


def _policy_error(rule: Rule, place: str, key: str, problem: str) -> _Refused:
    return _Refused(f"{place}: {_named(rule)}{key}: {problem}; {_ADMINS}")


def _job_error(attribute: str, found: object, remedy: str) -> _Refused:
    return _Refused(f"{attribute} of the job is {described(found)}; {remedy}")


def _allowed(request: Request) -> str:
    """What of mounts a job may ask for."""
    offered = f"offers {', '.join(request.offered) or 'none'}"
    bounds = ", ".join(map(shown, request.at_most))
    return f"{offered}, and allows at most {bounds}" if bounds else offered


def _check(plan: Plan) -> None:
    """What the rules have put together must be a plan."""
    try:
        read_plan(json.dumps(plan_document(plan)).encode(), "plan")
    except PlanError as error:
        raise _Refused(f"the policy of this node makes no plan: {error}; {_ADMINS}") from None
