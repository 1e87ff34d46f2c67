"""Progress lines with the seconds that have passed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


class Progress:
    """Tells a person what goes on; silent when `stream` is None."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        if self._stream is not None:
            elapsed = time.monotonic() - self._start
            print(f"[pool {elapsed:6.1f} s] {text}", file=self._stream, flush=True)

    @contextmanager
    def step(self, text: str, usual_seconds: int) -> Iterator[None]:
        """Announce a step with what it usually takes, then tell what it took."""
        self.say(f"{text} (usually {usual_seconds} s) ...")
        start = time.monotonic()
        yield
        self.say(f"... done in {time.monotonic() - start:.1f} s")


def on_stderr() -> Progress:
    """Progress on the real standard error, past pytest's capture."""
    return Progress(sys.__stderr__)
