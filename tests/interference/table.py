"""What came of all ways, as rows of a table."""

from __future__ import annotations

from typing import Any, NamedTuple

LONGEST_SHOWN = 60


class Result(NamedTuple):
    """Whether a way reached the victim, and by what that was seen."""

    reached: bool
    how: str

    @property
    def word(self) -> str:
        return "reached" if self.reached else "blocked"

    def joined(self, other: Result) -> Result:
        """Two ways that are one row."""
        return Result(self.reached or other.reached, f"{other.how}; {self.how}")


# What a job can do to another one of its user with the default policy, and why: docs/isolation.md.
OPEN = (
    "home directory: file, named socket",
    "the node's own address, port numbers",
    "counts of the user: inotify, processes",
    "inodes of the scratch file system",
    "user keyring",
)

# Ways that are one row.
MERGED = {
    "port numbers": "the node's own address, port numbers",
    "TCP by the node's own address": "the node's own address, port numbers",
    "inotify instances of the user": "counts of the user: inotify, processes",
    "process limit of the user": "counts of the user: inotify, processes",
    "file in the home directory": "home directory: file, named socket",
    "named Unix socket in home": "home directory: file, named socket",
}


def results(found: dict[str, Any]) -> dict[str, Result]:
    """Of one attacker, by way; ways that could not be tried are left out."""
    token, seen = found.get("token"), found.get("seen") or {}
    answers: dict[str, str] = {**dict.fromkeys(seen, ""), **found["tried"]}
    rows: dict[str, Result] = {}
    for way, answer in answers.items():
        if answer != "-":
            one = result(answer, token, seen.get(way))
            name = MERGED.get(way, way)
            rows[name] = one.joined(rows[name]) if name in rows else one
    return rows


def result(answer: str, token: str | None, seen: str | None) -> Result:
    assert not answer.startswith("FAULT"), answer
    if seen is not None:
        return Result(True, seen[:LONGEST_SHOWN])
    if token is not None and token in answer:
        return Result(True, "the victim's secret was read")
    if answer.startswith("reached: "):
        return Result(True, answer[9:][:LONGEST_SHOWN])
    return Result(False, " ".join(answer.split())[:LONGEST_SHOWN])


def table(columns: dict[str, dict[str, Result]]) -> str:
    """A row for each way, with the word of each column, and by what it was seen; as Markdown."""
    ways = dict.fromkeys(way for column in columns.values() for way in column)
    head = ["way", *columns, "how it was seen"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for way in ways:
        found = [column.get(way) for column in columns.values()]
        words = [result.word if result else "-" for result in found]
        hows = dict.fromkeys(_quoted(result.how) for result in found if result and result.how)
        lines.append(f"| {' | '.join([way, *words, '; '.join(hows)])} |")
    return "\n".join(lines)


def _quoted(how: str) -> str:
    return how.replace("|", "/")
