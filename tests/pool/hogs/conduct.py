"""Conducts pairs of hog and neighbour, one after the other: conduct.py HOG NEIGHBOUR ...

The arguments are their directories. Prints, as a JSON document, the seconds that each neighbour
took alone and beside the hog.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 120
# For what a hog leaves behind: dirty pages, processes that are being killed.
PAUSE_SECONDS = 1.5


def tell(directory: str, name: str) -> None:
    Path(directory, name).write_text("")


def wait_for(directory: str, name: str) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    path = Path(directory, name)
    while not path.exists():
        if time.monotonic() > deadline:
            sys.exit(f"{path} does not come")
        time.sleep(0.1)
    return path.read_text()


def conduct(hog: str, neighbour: str) -> list[float]:
    tell(neighbour, "alone")
    alone = float(wait_for(neighbour, "alone.seconds"))
    tell(hog, "go")
    wait_for(hog, "busy")
    tell(neighbour, "beside")
    try:
        return [alone, float(wait_for(neighbour, "beside.seconds"))]
    finally:
        tell(hog, "stop")


def main() -> None:
    figures = []
    for neighbour in sys.argv[2::2]:
        wait_for(neighbour, "warm")
    for pair in zip(sys.argv[1::2], sys.argv[2::2]):
        figures.append(conduct(*pair))
        time.sleep(PAUSE_SECONDS)
    print(json.dumps(figures))


main()
