"""What was seen of a job's processes, and its form as text. No I/O."""

from __future__ import annotations

TYPE_CHECKING = False  # what is imported below costs a job's end some ms
if TYPE_CHECKING:
    from collections.abc import Iterable

# The tracker writes all in one page, which no reader ever sees half written.
LARGEST_TEXT = 4096
_NUMBERS = (
    "readings",
    "shortest_seconds",
    "longest_seconds",
    "user_seconds",
    "system_seconds",
    "processes_peak",
    "rss_peak",
    "pss_peak",
    "storage_read_bytes",
    "storage_written_bytes",
)


class Reading:
    """One process at one look; seconds of CPU time, bytes.

    `identity` is its PID and when it was started (ticks since boot). `children_*` are of those that
    it has waited for. `storage_*` have both, and are None where they may not be read.
    """

    __slots__ = (
        "identity", "user", "system", "children_user", "children_system", "threads", "rss",
        "storage_read", "storage_written",
    )  # fmt: skip

    def __init__(
        self,
        identity: tuple[int, int],
        cpu: tuple[float, float, float, float],
        threads: int,
        rss: int,
        storage: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.identity = identity
        self.user, self.system, self.children_user, self.children_system = cpu
        self.threads = threads
        self.rss = rss
        self.storage_read, self.storage_written = storage


class Seen:
    """The highest of all looks; everything is a lower bound.

    `shortest_seconds` and `longest_seconds` are between two looks. `pss_peak` is None where nobody
    looked. `problem` says why there are no readings, `pss_problem` why there is no `pss_peak`.
    """

    __slots__ = (*_NUMBERS, "problem", "pss_problem", "_last", "_gone")

    def __init__(self) -> None:
        self.readings = 0
        self.shortest_seconds = self.longest_seconds = 0.0
        self.user_seconds = self.system_seconds = 0.0
        self.processes_peak = self.rss_peak = 0
        self.pss_peak: int | None = None
        self.storage_read_bytes: int | None = None
        self.storage_written_bytes: int | None = None
        self.problem = self.pss_problem = ""
        self._last: dict[tuple[int, int], tuple[float, float]] = {}
        self._gone = (0.0, 0.0)

    def add(self, readings: Iterable[Reading], waited_for: tuple[float, float]) -> int:
        """Add one look at all processes; `waited_for` is CPU time of those that init waited for.

        Returns the bytes of RSS of all together.
        """
        found = list(readings)
        if not found:
            return 0  # gone already, or not yet there
        self.readings += 1
        self._add_cpu(found, waited_for)
        self.processes_peak = max(self.processes_peak, sum([one.threads for one in found]))
        rss = sum([one.rss for one in found])
        self.rss_peak = max(self.rss_peak, rss)
        read = [one.storage_read for one in found if one.storage_read is not None]
        written = [one.storage_written for one in found if one.storage_written is not None]
        if read and written:
            self.storage_read_bytes = max(self.storage_read_bytes or 0, sum(read))
            self.storage_written_bytes = max(self.storage_written_bytes or 0, sum(written))
        return rss

    def note_pause(self, seconds: float) -> None:
        """Between the last look and the one before it."""
        self.longest_seconds = max(self.longest_seconds, seconds)
        self.shortest_seconds = min(self.shortest_seconds or seconds, seconds)

    def note_pss(self, pss: int) -> None:
        """The proportional set sizes of all processes together."""
        self.pss_peak = max(self.pss_peak or 0, pss)

    def text(self) -> bytes:
        """All of it, a line each."""
        lines = [f"{name} {getattr(self, name)}\n" for name in _NUMBERS]
        lines += [f"problem {self.problem}\n", f"pss_problem {self.pss_problem}\n"]
        return "".join(lines).encode("utf-8", "replace")[:LARGEST_TEXT]

    def _add_cpu(self, found: list[Reading], waited_for: tuple[float, float]) -> None:
        """Two lower bounds, of which the higher one is kept.

        What the living have used, with all that was waited for, misses those that nobody waited
        for. What every process had used when it was last looked at misses what came after.
        """
        user = waited_for[0] + sum([one.user + one.children_user for one in found])
        system = waited_for[1] + sum([one.system + one.children_system for one in found])
        self._note_cpu(user, system)
        now = {one.identity: (one.user, one.system) for one in found}
        gone = [used for identity, used in self._last.items() if identity not in now]
        self._gone = _sum([self._gone, *gone])
        self._last = now
        self._note_cpu(*_sum([self._gone, *now.values()]))

    def _note_cpu(self, user: float, system: float) -> None:
        if user + system > self.user_seconds + self.system_seconds:
            self.user_seconds, self.system_seconds = user, system


def parse(text: bytes) -> Seen:
    """What text() told; empty if there was none. Raises ValueError."""
    seen = Seen()
    for line in text.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(" ")
        if name in ("problem", "pss_problem"):
            setattr(seen, name, value)
        elif name in _NUMBERS and value != "None":
            setattr(seen, name, int(value) if value.isdigit() else float(value))
    return seen


def _sum(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return sum([user for user, _ in pairs]), sum([system for _, system in pairs])
