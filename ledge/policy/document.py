"""A policy from its YAML document, checked key by key; docs/policy.md says what each means."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Callable, TypeVar

from ledge.errors import PlanError
from ledge.plan.document import MOUNT_BOUNDS, plan_document, read_mount, read_plan
from ledge.plan.plan import Mount, Plan
from ledge.policy.errors import ExpressionError, PolicyError, Unfit
from ledge.policy.expressions import Expression, is_name
from ledge.policy.keys import (
    AMOUNTS,
    KEYS,
    Key,
    NotLiteral,
    PathsKey,
    QuantityKey,
    Value,
    WordKey,
    WordsKey,
    attribute_of,
    is_plain_path,
    words_of,
)
from ledge.policy.model import (
    BUILT_IN,
    DEFAULTS,
    MOUNTS,
    REFUSE,
    WITHOUT_DAEMON,
    Mounts,
    MountSetting,
    Policy,
    Request,
    Rule,
    Setting,
    built_in_policy,
)
from ledge.policy.terms import is_of_the_system, is_source_of_a_job_s
from ledge.policy.tree import Mapping, Scalar, Sequence, Tree, read_tree

VERSION = "1"

_TOP = ("version", "without_daemon", "defaults", "rules")
_SETTINGS = (*KEYS, MOUNTS, REFUSE, "requests")
# As an expression it would be a division, or an attribute without MY or TARGET.
_RELATIVE_PATH = re.compile(r"(?!(?i:MY|TARGET)\.)[\w.~-]+(?:/[\w.~-]*)*")
_OF_A_MOUNT = ("kind", "target", "source", "read_only", "nosuid", "size", "inodes")
_T = TypeVar("_T")


def read_policy(document: bytes, origin: str) -> Policy:
    """Parse and check a policy; `origin` names it in errors. Raises PolicyError."""
    reader = _Reader()
    policy = reader.policy(read_tree(document, origin), origin)
    if reader.errors:
        first = reader.errors[0]
        raise PolicyError(first.problem, first.remedy, tuple(map(str, reader.errors[1:])))
    return policy


class _Reader:
    """Reads all of a policy, and collects what is wrong with it on the way."""

    def __init__(self) -> None:
        self.errors: list[PolicyError] = []

    def attempt(self, read: Callable[..., _T], *arguments: object) -> _T | None:
        """What `read` returns, or None and one more error."""
        try:
            return read(*arguments)
        except PolicyError as error:
            self.errors.append(error)
            return None

    def entries(
        self, tree: Tree, known: tuple[str, ...], what: str
    ) -> Iterator[tuple[str, str, Tree]]:
        """Key, place and value of the entries of a mapping whose keys are known; none of null."""
        if isinstance(tree, Scalar) and tree.null:
            return
        if not isinstance(tree, Mapping):
            problem = f"{tree.place}: {what}: expected keys and values, found {_found(tree)}"
            self.errors.append(PolicyError(problem, f"known are {', '.join(known)}"))
            return
        for key, (place, value) in tree.entries.items():
            if key in known:
                yield key, place, value
            else:
                self.errors.append(_unknown(place, key, known))

    def policy(self, tree: Tree | None, origin: str) -> Policy:
        if not isinstance(tree, Mapping) or "version" not in tree.entries:
            raise PolicyError(f"{origin}:1: expected a line version: {VERSION}")
        policy = built_in_policy()
        for key, place, value in self.entries(tree, _TOP, "policy"):
            if key == "version":
                self.attempt(_word, value, place, key, (VERSION,))
            elif key == "without_daemon":
                word = self.attempt(_word, value, place, key, WITHOUT_DAEMON)
                policy = policy._replace(without_daemon=word or "")
            elif key == "defaults":
                rule = self.filled(Rule(DEFAULTS, place, None, {}, {}), value, _SETTINGS)
                self.attempt(_check_together, rule)
                policy = policy._replace(defaults=rule)
            else:
                policy = policy._replace(rules=tuple(self.rules(value)))
        return policy

    def rules(self, tree: Tree) -> Iterator[Rule]:
        if isinstance(tree, Scalar) and tree.null:
            return
        if not isinstance(tree, Sequence):
            problem = f"{tree.place}: rules: expected a list, found {_found(tree)}"
            self.errors.append(PolicyError(problem, "each rule begins with - name: ..."))
            return
        names: dict[str, str] = {}
        for item in tree.items:
            rule = self.attempt(self.rule, item)
            if rule is None:
                continue
            if rule.name in names:
                problem = f"{rule.place}: the name {rule.name!r:.80} stands twice"
                self.errors.append(PolicyError(problem, f"first at {names[rule.name]}"))
            names.setdefault(rule.name, rule.place)
            yield rule

    def rule(self, tree: Tree) -> Rule:
        if not isinstance(tree, Mapping):
            expected = "a rule with name, match and settings"
            raise PolicyError(f"{tree.place}: rules: expected {expected}, found {_found(tree)}")
        for key in ("name", "match"):
            if key not in tree.entries:
                raise PolicyError(f"{tree.place}: a rule needs the key {key}")
        name = _name(*tree.entries["name"])
        match = self.attempt(_match, *tree.entries["match"])
        rule = Rule(name, tree.place, match, {}, {})
        return self.filled(rule, tree, ("name", "match", *_SETTINGS))

    def filled(self, rule: Rule, tree: Tree, known: tuple[str, ...]) -> Rule:
        """The rule with its settings and requests."""
        for key, place, value in self.entries(tree, known, rule.name):
            if key == "requests":
                for name, where, request in self.entries(value, (*KEYS, MOUNTS), key):
                    rule.requests[name] = self.request(name, where, request)
            elif key not in ("name", "match"):
                setting = self.attempt(_entry, key, place, value)
                if setting is not None:
                    rule.settings[key] = setting
        return rule

    def request(self, name: str, place: str, tree: Tree) -> Request | None:
        if isinstance(tree, Scalar) and tree.text == "none":
            return None
        request = Request(place, attribute_of(name), {}, {})
        bounds = ("offered", "at_most") if name == MOUNTS else KEYS[name].bounds
        for key, where, value in self.entries(tree, ("attribute", *bounds), name):
            if key == "attribute":
                attribute = self.attempt(_attribute, value, where)
                request = request._replace(attribute=attribute or "")
            elif key == "offered":
                request.offered.update(self.offered(value))
            elif name == MOUNTS:
                mounts = self.attempt(_mounts, value, _mount_at_most)
                request = request._replace(at_most=mounts or ())
            else:
                bound = self.attempt(_choices if key == "one_of" else _setting, name, where, value)
                if bound is not None:
                    request.bounds[key] = bound
        return request

    def offered(self, tree: Tree) -> Iterator[tuple[str, Mounts]]:
        if not isinstance(tree, Mapping):
            problem = f"{tree.place}: offered: expected names with a mount each"
            self.errors.append(PolicyError(problem, "NAME: {kind: ..., target: ...}"))
            return
        for name, (place, value) in tree.entries.items():
            mount = self.attempt(_mount, value)
            if mount is not None:
                yield name, Mounts(place, (mount,))


def _entry(key: str, place: str, tree: Tree) -> Setting | Mounts:
    return Mounts(place, _mounts(tree)) if key == MOUNTS else _setting(key, place, tree)


def _setting(key: str, place: str, tree: Tree) -> Setting:
    if key == REFUSE:
        return Setting(place, _refusal(_text(tree, place, key), place))
    if isinstance(KEYS[key], WordsKey) and isinstance(tree, Sequence):
        return Setting(place, _words(tree, place, KEYS[key]))
    return Setting(place, _value(KEYS[key], _text(tree, place, key, KEYS[key].expected), place))


def _text(tree: Tree, place: str, key: str, expected: str = "an expression") -> str:
    if not isinstance(tree, Scalar) or tree.null:
        raise PolicyError(f"{place}: {key}: expected {expected}, found {_found(tree)}")
    return tree.text


def _found(tree: Tree) -> str:
    if isinstance(tree, Scalar):
        return "nothing" if tree.null else repr(tree.text.strip())[:80]
    return "a list" if isinstance(tree, Sequence) else "keys and values"


def _value(key: Key, text: str, place: str) -> Value | Expression:
    """A literal if it is one, else an expression."""
    try:
        return key.literal(text)
    except NotLiteral:
        pass
    except Unfit as unfit:
        problem = f"{place}: {key.name}: expected {unfit}, found {text.strip()!r:.80}"
        raise PolicyError(problem) from None
    if is_name(text.strip()):
        _check_slip(text.strip(), place, key)
    expression = _expression(text, place, key.name, f"{key.expected}, or an expression")
    _check_constant(expression, place, key)
    return expression


def _check_constant(expression: Expression, place: str, key: Key) -> None:
    """What can be known to fail for every job is said before there is one."""
    found = repr(expression.text)[:80]
    try:
        value = expression.constant()
        if value is not None:
            key.converted(value)
    except Unfit as unfit:
        problem = f"{place}: {key.name}: expected {unfit}, found {found}"
        raise PolicyError(problem) from None
    except ExpressionError as error:
        problem = f"{place}: {key.name}: expected {key.expected}, found {found}"
        raise PolicyError(problem, f"it {error}") from None


def _check_slip(text: str, place: str, key: Key) -> None:
    """A word with a letter wrong would be an attribute that is undefined in every ad.

    So would be any other word for a key that takes nothing but a few.
    """
    close = difflib.get_close_matches(text.lower(), key.words, 1, 0.7)
    if close or isinstance(key, WordKey):
        problem = f"{place}: {key.name}: expected {key.expected}, found {text!r:.80}"
        meant = f"did you mean {close[0]}? " if close else ""
        remedy = f"{meant}An attribute would be MY.{text} or TARGET.{text}"
        raise PolicyError(problem, remedy)


def _expression(
    text: str, place: str, key: str, expected: str = "a ClassAd expression"
) -> Expression:
    try:
        return Expression(text)
    except ExpressionError as error:
        problem = f"{place}: {key}: expected {expected}, found {text.strip()!r:.80}"
        raise PolicyError(problem, f"as an expression it {error}") from None


def _match(place: str, tree: Tree) -> Expression:
    return _expression(_text(tree, place, "match"), place, "match")


def _refusal(text: str, place: str) -> Expression:
    """An expression; a word without the quotes of a ClassAd would be the attribute of that name."""
    reason = "a fixed reason is written '\"the reason\"'"
    name = text.strip()
    if is_name(name) and name.lower() not in ("true", "false", "undefined"):
        problem = f"{place}: {REFUSE}: expected an expression, found {name!r:.80}"
        raise PolicyError(problem, f"{reason}, an attribute MY.{name} or TARGET.{name}")
    return _expression(text, place, REFUSE, f"an expression ({reason})")


def _words(tree: Sequence, place: str, key: Key) -> Value:
    """A list of words, none of them an expression."""
    words = [item.text if isinstance(item, Scalar) else "" for item in tree.items]
    unknown = next((word for word in words if not _is_word(key, word)), None)
    if unknown is not None:
        raise PolicyError(f"{place}: {key.name}: expected {key.expected}, found {unknown!r:.80}")
    return key.literal(",".join(words))


def _is_word(key: Key, word: str) -> bool:
    return word in key.words or (isinstance(key, PathsKey) and is_plain_path(word))


def _choices(name: str, place: str, tree: Tree) -> Setting:
    """The words among which a job may choose."""
    key = KEYS[name]
    items = tree.items if isinstance(tree, Sequence) else [tree]
    texts = [item.text for item in items if isinstance(item, Scalar)]
    words = words_of(",".join(texts))
    if len(texts) != len(items) or not set(words) <= set(key.words):
        raise PolicyError(f"{place}: one_of: expected {key.expected}, found {_found(tree)}")
    return Setting(place, words)


def _mounts(
    tree: Tree, read: Callable[[Tree], MountSetting] | None = None
) -> tuple[MountSetting, ...]:
    if isinstance(tree, Scalar) and tree.text == "none":
        return ()
    if not isinstance(tree, Sequence):
        expected = "a list of mounts, or none"
        raise PolicyError(f"{tree.place}: mounts: expected {expected}, found {_found(tree)}")
    return tuple((read or _mount)(item) for item in tree.items)


def _mount(tree: Tree) -> MountSetting:
    """A mount, checked as the plan's will be, with stand-ins for what expressions will give."""
    paths: dict[str, str | Expression] = {}
    amounts: dict[str, Value | Expression] = dict.fromkeys(AMOUNTS)
    document: dict[str, object] = {}
    for key, (place, value) in tree.entries.items() if isinstance(tree, Mapping) else ():
        if key not in _OF_A_MOUNT:
            raise _unknown(place, key, _OF_A_MOUNT)
        text = _text(value, place, key, "a text")
        if key in ("target", "source"):
            if _RELATIVE_PATH.fullmatch(text):
                raise PolicyError(f"{place}: {key}: expected an absolute path, found {text!r:.80}")
            literal = text.startswith("/")
            paths[key] = text if literal else _expression(text, place, key, "a path, or an")
            document[key] = text if literal else "/"
        elif key in ("size", "inodes"):
            name = "size_bytes" if key == "size" else key
            amounts[name] = _value(AMOUNTS[name], text, place)
            document[name] = int(MOUNT_BOUNDS[name][0])
        else:
            document[key] = text if key == "kind" else {"true": True, "false": False}.get(text)
    try:
        mount = read_mount(document, f"{tree.place}: mounts")
    except PlanError as error:
        raise PolicyError(error.problem.replace("_bytes", ""), error.remedy) from None
    target, source = paths["target"], paths.get("source")
    if isinstance(source, Expression) and isinstance(target, str) and is_of_the_system(target):
        problem = f"{tree.place}: mounts: what is seen at {target:.80} must be written out"
        raise PolicyError(problem, "instead of an expression, a rule for each source")
    return MountSetting(mount.kind, target, source, mount.read_only, mount.nosuid, **amounts)


def _mount_at_most(tree: Tree) -> MountSetting:
    """What bounds the mounts that a job may write itself: never a directory of the system's."""
    mount = _mount(tree)
    where = f"{tree.place}: mounts: at_most"
    if mount.kind == "devpts":
        raise PolicyError(f"{where}: a job may write no mount of kind 'devpts'")
    for path in (mount.target, mount.source):
        if path is not None and not (isinstance(path, str) and is_plain_path(path)):
            raise PolicyError(f"{where}: the paths must be written out, as in /data/reference")
    if is_of_the_system(str(mount.target)):
        problem = f"{where}: programs of root's believe what is at {mount.target:.80}"
        raise PolicyError(problem, "make a directory such as /scratch, or offer a mount there")
    if isinstance(mount.source, str) and not is_source_of_a_job_s(mount.source):
        raise PolicyError(f"{where}: {mount.source:.80} shows what is hidden elsewhere")
    return mount


def _check_together(defaults: Rule) -> None:
    """What does not depend on the job has to be a plan; a rule may be right only with others."""
    plan = Plan()
    for key, setting in defaults.settings.items():
        if isinstance(setting, Mounts):
            plan.mounts = tuple(Mount("tmpfs", "/") for _ in setting.mounts)
        elif isinstance(setting.value, Expression):
            if key in ("namespaces", "cgroup"):
                return
        elif not isinstance(KEYS[key], QuantityKey):
            KEYS[key].put(plan, setting.value)
    try:
        read_plan(json.dumps(plan_document(plan)).encode(), f"{defaults.place}: {DEFAULTS}")
    except PlanError as error:
        raise PolicyError(error.problem, error.remedy) from None


def _word(tree: Tree, place: str, key: str, words: tuple[str, ...]) -> str:
    if not isinstance(tree, Scalar) or tree.text not in words:
        expected = " or ".join(words)
        raise PolicyError(f"{place}: {key}: expected {expected}, found {_found(tree)}")
    return tree.text


def _name(place: str, tree: Tree) -> str:
    """One printable line, and none that an explanation has for something else."""
    if not isinstance(tree, Scalar) or not tree.text.strip() or not tree.text.isprintable():
        raise PolicyError(f"{place}: name: expected one line, found {_found(tree)}")
    if tree.text in (BUILT_IN, DEFAULTS):
        raise PolicyError(f"{place}: name: {tree.text!r} is no name for a rule")
    return tree.text


def _attribute(tree: Tree, place: str) -> str:
    if not isinstance(tree, Scalar) or not is_name(tree.text):
        expected = "the name of a job attribute"
        raise PolicyError(f"{place}: attribute: expected {expected}, found {_found(tree)}")
    return tree.text


def _unknown(place: str, key: str, known: tuple[str, ...]) -> PolicyError:
    close = difflib.get_close_matches(key, known, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return PolicyError(f"{place}: unknown key {key!r:.80}", f"{meant}Known are {', '.join(known)}")
