"""What of a policy the daemon knows itself, and holds every decision against.

The process that decides has read a job ad, and ads are hostile: if one has taken it over, its
decision is a forgery. It could at worst mount what its user wrote over a file that set-uid programs
believe, and make the user root. So a mount in the directories of the system is believed only if
the policy has it word for word, as told by the process that reads policies, and no ads; one that a
job may write itself only outside of them; and a path is hidden only if the policy hides it from any
job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledge.plan.plan import Mount, Plan
from ledge.policy.expressions import Expression
from ledge.policy.model import WITHOUT_DAEMON, Mounts, MountSetting, Policy, Setting

# Where the programs that run as root have their parts, their settings and what they believe.
SYSTEM_DIRECTORIES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc",
    "/root", "/run", "/sbin", "/sys", "/usr", "/var",
)  # fmt: skip
_EVERYBODY_S = ("/dev/shm", "/var/tmp")


# Where sources are never for a job to choose: below them the kernel shows what is hidden elsewhere.
_OF_THE_KERNEL = ("/dev", "/proc", "/sys")


class MountTerm(NamedTuple):
    """A mount that a policy can make; a path that is None is an expression's.

    `within`: a job may write it, with paths that are these or below them, and with less rights.
    """

    kind: str
    target: str | None
    source: str | None
    read_only: bool
    nosuid: bool = False
    within: bool = False

    def allows(self, mount: Mount) -> bool:
        """Whether this is where the mount comes from, or may be."""
        if self.within:
            return self.bounds(mount)
        if (self.kind, self.read_only, self.nosuid) != (mount.kind, mount.read_only, mount.nosuid):
            return False
        if self.target is None and is_of_the_system(mount.target):
            return False
        return self.target in (None, mount.target) and (
            self.source in (None, mount.source) or mount.source is None
        )

    def bounds(self, mount: Mount) -> bool:
        """Whether a job may write the mount, but for its amounts."""
        if mount.kind != self.kind or (self.read_only and not mount.read_only):
            return False
        if mount.kind == "bind" and not mount.nosuid:
            return False
        if is_of_the_system(mount.target) or not _is_below(mount.target, (self.target or "",)):
            return False
        return mount.source is None or _is_below(mount.source, (self.source or "",))


class Terms(NamedTuple):
    """`without_daemon` is what happens when the daemon does not answer."""

    without_daemon: str
    mounts: tuple[MountTerm, ...]
    hidden: tuple[str, ...] = ()

    def forged(self, plan: Plan) -> Mount | None:
        """A mount of the plan that does not come from the policy; what is hidden is one, too."""
        for path in plan.hide:
            if path not in (*Plan().hide, *self.hidden):
                return Mount("hidden", path)
        own = frozenset(map(_term, Plan().mounts))
        for mount in plan.mounts:
            if _term(mount) not in own and not any(term.allows(mount) for term in self.mounts):
                return mount
        return None


def is_of_the_system(path: str) -> bool:
    """Whether what stands there may be believed by programs that run as root."""
    absolute = "/" + "/".join([part for part in path.split("/") if part not in ("", ".")])
    return absolute == "/" or (
        _is_below(absolute, SYSTEM_DIRECTORIES) and not _is_below(absolute, _EVERYBODY_S)
    )


def is_source_of_a_job_s(path: str) -> bool:
    """Whether a job may be allowed to have what is there, and below it, mounted elsewhere."""
    return path.strip("/") != "" and not _is_below(path, _OF_THE_KERNEL)


def terms_of(policy: Policy) -> Terms:
    """What the daemon has to know of a policy."""
    settings: list[MountSetting] = []
    written: list[MountTerm] = []
    for rule in (policy.defaults, *policy.rules):
        for setting in rule.settings.values():
            if isinstance(setting, Mounts):
                settings += setting.mounts
        for request in rule.requests.values():
            for offered in request.offered.values() if request is not None else ():
                settings += offered.mounts
            written += map(within, request.at_most) if request is not None else ()
    mounts = tuple(dict.fromkeys([*map(_of_setting, settings), *written]))
    return Terms(policy.without_daemon, mounts, tuple(_hidden(policy)))


def written_terms(terms: Terms) -> str:
    """As text that read_terms() understands."""
    return json.dumps(terms)


def read_terms(text: str) -> Terms:
    """Raises ValueError."""
    try:
        without_daemon, mounts, hidden = json.loads(text)
        if without_daemon in WITHOUT_DAEMON and all(isinstance(path, str) for path in hidden):
            return Terms(
                without_daemon, tuple([MountTerm(*mount) for mount in mounts]), tuple(hidden)
            )
    except (ValueError, TypeError):
        pass
    raise ValueError(f"these are no terms of a policy: {text!r:.80}")


def _hidden(policy: Policy) -> Iterator[str]:
    """All paths that the policy hides from anybody, or lets anybody hide."""
    for rule in (policy.defaults, *policy.rules):
        settings = [rule.settings.get("hide")]
        request = rule.requests.get("hide")
        settings += request.bounds.values() if request is not None else ()
        for setting in settings:
            if isinstance(setting, Setting) and isinstance(setting.value, tuple):
                yield from [path for path in setting.value if isinstance(path, str)]


def _term(mount: Mount) -> MountTerm:
    return MountTerm(mount.kind, mount.target, mount.source, mount.read_only, mount.nosuid)


def within(setting: MountSetting) -> MountTerm:
    """The term of what bounds the mounts that a job may write."""
    return _of_setting(setting)._replace(within=True)


def _of_setting(setting: MountSetting) -> MountTerm:
    target, source = (
        None if isinstance(path, Expression) else path for path in (setting.target, setting.source)
    )
    return MountTerm(setting.kind, target, source, setting.read_only, setting.nosuid)


def _is_below(path: str, directories: Iterable[str]) -> bool:
    return any((path + "/").startswith(directory + "/") for directory in directories)
