"""Which processes outside of a job's process tree are the job's all the same. No I/O.

HTCondor marks what a job starts by its environment: _CONDOR_ANCESTOR_PID for each of its daemons on
the way to the job, with a value that no other has, and _CONDOR_SCRATCH_DIR. A session has the
PID of whoever made it. What has neither was started after the job, by its user, and works in its
scratch directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SCRATCH = "_CONDOR_SCRATCH_DIR"
_ANCESTOR = "_CONDOR_ANCESTOR_"


class Marks:
    """What tells a job's processes: its user, when it was started (ticks since boot), its scratch
    directory, and what HTCondor put into its environment; `starter` is the PID of the process that
    started the wrapper.
    """

    __slots__ = ("uid", "started", "scratch", "ancestor")

    def __init__(
        self, uid: int, started: int, scratch: str, environ: Mapping[str, str], starter: int
    ) -> None:
        self.uid = uid
        self.started = started
        self.scratch = scratch
        name = f"{_ANCESTOR}{starter}"
        self.ancestor = (name, environ[name]) if name in environ else None


def may_be(uid: int, started: int, marks: Marks) -> bool:
    """Whether a process can be the job's at all, by its real user and when it was started."""
    return uid == marks.uid and started >= marks.started


def by_environment(environ: Mapping[str, str], marks: Marks) -> bool | None:
    """Whether a process is the job's by its environment; None if that says nothing."""
    if marks.ancestor is not None and environ.get(marks.ancestor[0]) == marks.ancestor[1]:
        return True
    if _SCRATCH in environ:
        return bool(marks.scratch) and environ[_SCRATCH] == marks.scratch
    # Another job's, of which the scratch directory was taken away.
    return False if any(name.startswith(_ANCESTOR) for name in environ) else None


def by_files(paths: Sequence[str], marks: Marks) -> bool:
    """Whether a working directory or an open file is in the job's scratch directory."""
    below = marks.scratch.rstrip("/") + "/"
    return bool(marks.scratch) and any((path + "/").startswith(below) for path in paths)
