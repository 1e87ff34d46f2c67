"""Mounts that a job writes itself, as KIND:PATH... in its ad; docs/policy.md says how.

    bind:SOURCE[:TARGET][:ro]    overlay:SOURCE[:TARGET]    tmpfs:TARGET[:SIZE[:INODES]]
    private:TARGET

TARGET is SOURCE where it is left out. A path with a comma or a colon cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

from ledge.plan.plan import Mount, Plan
from ledge.policy.errors import Unfit
from ledge.policy.expressions import Expression
from ledge.policy.keys import AMOUNTS, Key, NotLiteral, Value, is_plain_path
from ledge.policy.model import MountSetting
from ledge.policy.quantities import Share
from ledge.policy.terms import MountTerm

# The most that one job can ask for; each is a system call or six before the job starts.
MOST_ASKED = 16
_EXPECTED = (
    "bind:SOURCE:TARGET, bind:SOURCE:TARGET:ro, overlay:SOURCE:TARGET, "
    "tmpfs:TARGET:SIZE or private:TARGET"
)


def words_asked(found: object, names: Iterable[str]) -> list[str]:
    """The mounts that the value of an attribute asks for: a list, or a text with commas.

    Raises Unfit, with the `names` that the job could have asked for.
    """
    words = found.split(",") if isinstance(found, str) else found
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Unfit(f"any of {', '.join([*names, _EXPECTED])}")
    if len(words) > MOST_ASKED:
        raise Unfit(f"at most {MOST_ASKED} mounts")
    return list(dict.fromkeys([word.strip() for word in words]))


def mount_asked(word: str, amount: Callable[[Key, Value], Value]) -> Mount:
    """The mount that a word asks for; `amount` works percentages out. Raises Unfit."""
    kind, *parts = word.split(":")
    if kind == "bind" and len(parts) > 1 and parts[-1] in ("ro", "rw"):
        read_only = parts.pop() == "ro"
    else:
        read_only = False
    paths = [part for part in parts if part.startswith("/")]
    rest = parts[len(paths) :]
    most_paths, most_rest = {"tmpfs": (1, 2), "private": (1, 0)}.get(kind, (2, 0))
    if kind not in ("bind", "overlay", "tmpfs", "private") or parts != [*paths, *rest]:
        raise Unfit(_EXPECTED)
    if not 0 < len(paths) <= most_paths or len(rest) > most_rest:
        raise Unfit(_EXPECTED)
    if not all(map(is_plain_path, paths)):
        raise Unfit("paths such as /data/reference")
    mount = Mount(kind, paths[-1], paths[0] if most_paths > 1 else None, read_only, kind == "bind")
    for (name, key), text in zip(AMOUNTS.items(), rest):
        setattr(mount, name, amount(key, _literal(key, text)))
    return mount


def _literal(key: Key, text: str) -> Value:
    try:
        return key.literal(text)
    except NotLiteral:
        raise Unfit(key.expected) from None


def bounded(mount: Mount, term: MountTerm, bound: Mount) -> bool:
    """Whether a mount is within a bound, whose amounts it gets where it has none of its own."""
    if not term.bounds(mount):
        return False
    for name in AMOUNTS:
        most, asked = getattr(bound, name), getattr(mount, name)
        if most is not None and asked is not None and asked > most:
            return False
        setattr(mount, name, most if asked is None else asked)
    return True


def shown(bound: MountSetting) -> str:
    """What bounds mounts that a job writes, as it would write one."""
    parts = [str(part) for part in (bound.kind, bound.source, bound.target) if part]
    size = bound.size_bytes
    if isinstance(size, Expression):
        parts.append(size.shown())
    elif size is not None:
        parts.append(size.text if isinstance(size, Share) else AMOUNTS["size_bytes"].shown(size))
    return ":".join([*parts, *(["ro"] if bound.read_only else [])])


def paths_needed(plan: Plan) -> list[str]:
    """What has to be on the node for the plan's mounts, and is not itself in one of them."""
    targets = [mount.target + "/" for mount in plan.mounts]
    paths = [path for mount in plan.mounts for path in (mount.source, mount.target) if path]
    within_one = [path for path in paths if any(path.startswith(target) for target in targets)]
    return [path for path in dict.fromkeys(paths) if path not in within_one]


def replacing(mounts: tuple[Mount, ...], asked: Mount) -> tuple[Mount, ...]:
    """The mounts of a plan with one more, instead of what would be empty below it."""
    rest = [m for m in mounts if m.target != asked.target or m.kind not in ("private", "tmpfs")]
    return (*rest, asked)
