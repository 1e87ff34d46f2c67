"""The table of docs/accuracy.md from what CONDOR_LEDGE_TRUTH_TABLE has written: table.py FILE.

For each figure the median and the worst error of all runs: of condor-ledge against the kernel's own
counter and against what is known, of HTCondor alone against what is known. "-": nobody says. A
star: not alone, but in the ads of jobs that ran with condor-ledge.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

KNOWN, KERNEL, LEDGE, CONDOR = range(4)
Run = list["float | None"]
HEAD = """\
| work | attribute | runs | condor-ledge against the kernel | condor-ledge against known \
| HTCondor alone against known |
|---|---|---|---|---|---|"""


def errors(runs: Iterable[Run], figure: int, reference: int) -> list[float]:
    """Relative errors of those runs that have both."""
    found = []
    for run in runs:
        value, true = run[figure], run[reference]
        if value is not None and true:
            found.append(value / true - 1)
    return found


def told(found: list[float]) -> str:
    """The median, and the worst."""
    if not found:
        return "-"
    median, worst = percent(statistics.median(found)), percent(max(found, key=abs))
    return median if median == worst else f"{median} ({worst})"


def percent(error: float) -> str:
    """Two digits that say something, as long as it is more than a thousandth of a percent."""
    value = 100 * error
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2 if abs(value) >= 0.1 else 3
    if not round(value, 3):
        return "<0.001 %" if value else "0"
    return f"{value:+.{digits}f} %"


def line(title: str, attribute: str, with_it: list[Run], alone: list[Run]) -> str:
    condor = errors(alone or with_it, CONDOR, KNOWN)
    columns = [
        title,
        f"`{attribute}`",
        f"{len(with_it)}, {len(alone)}",
        told(errors(with_it, LEDGE, KERNEL)),
        told(errors(with_it, LEDGE, KNOWN)),
        told(condor) + ("*" if condor and not alone else ""),
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    # The file may be of more than one session: all runs count.
    runs: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for text in Path(sys.argv[1]).read_text().splitlines():
        _, title, attribute, kind, found = json.loads(text)
        runs.setdefault((title, attribute), {}).setdefault(kind, []).extend(found)
    print(HEAD)
    for (title, attribute), kinds in runs.items():
        print(line(title, attribute, kinds.get("with", []), kinds.get("alone", [])))


if __name__ == "__main__":
    main()
