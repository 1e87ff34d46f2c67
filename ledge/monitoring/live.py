"""The screen of condor_ledge top in a terminal, drawn by rich, which is optional."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from ledge.errors import LedgeError
from ledge.monitoring.node import Node
from ledge.monitoring.view import View, screen

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_REMEDY = "install python3-rich (Debian, EPEL), or print a table once: condor_ledge top -b"
_ARROWS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}
_MOST_KEYS = 64


class Top:
    """The screen: a node, looked at every few seconds, as the keys want it shown."""

    def __init__(self, look: Callable[[], Node], view: View, pause: float, rounds: int) -> None:
        """`rounds` is how often to look; 0: until `q` is pressed."""
        self.look = look
        self.view = view
        self.pause = pause
        self.rounds = rounds
        self.node = look()
        self.problem = ""

    def run(self) -> None:
        """Show it until it is to end. Raises LedgeError if rich is not there."""
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            raise LedgeError("rich is not installed", _REMEDY) from None
        console = Console()
        woken = _signals()
        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            with Live(console=console, screen=True, auto_refresh=False) as live:
                self._loop(console, live, woken)
        except KeyboardInterrupt:
            pass
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def _loop(self, console: Console, live: Live, woken: int) -> None:
        due = time.monotonic() + self.pause
        while not self.view.ended:
            live.update(self._drawn(console), refresh=True)
            wait = max(due - time.monotonic(), 0.0)
            ready = select.select([sys.stdin, woken], [], [], wait)[0]
            if sys.stdin in ready:
                for key in keys(os.read(sys.stdin.fileno(), _MOST_KEYS)):
                    self.view.press(key)
            if woken in ready:
                os.read(woken, _MOST_KEYS)
            if ready:
                continue
            due = time.monotonic() + self.pause
            self.rounds -= 1
            if self.rounds == 0:
                return
            if not self.view.paused:
                self._look_again()

    def _look_again(self) -> None:
        """What was there last stays on the screen while ledged does not answer."""
        try:
            self.node, self.problem = self.look(), ""
        except LedgeError as error:
            self.problem = str(error)

    def _drawn(self, console: Console) -> Text:
        from rich.text import Text

        width, height = console.size
        utf8 = console.encoding.startswith("utf")
        lines = screen(self.node, self.view, os.uname().nodename, width, height, utf8)
        if self.problem:
            lines[-1] = [(self.problem, "bold red")]
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(lines):
            for piece, style in line:
                text.append(piece, style)
            text.append("\n" if number < len(lines) - 1 else "")
        return text


def keys(data: bytes) -> Iterator[str]:
    """The keys of what a terminal sends: characters, and arrows by name (ECMA-48)."""
    at = 0
    while at < len(data):
        if data[at : at + 2] in (b"\x1b[", b"\x1bO"):
            arrow = _ARROWS.get(data[at + 2 : at + 3])
            if arrow is not None:
                yield arrow
            at += 3
        else:
            yield data[at : at + 1].decode("ascii", "replace")
            at += 1


def _signals() -> int:
    """Have SIGTERM end it, and another size of the terminal seen at once.

    What is returned can be read after a signal, also one that comes just before select(2).
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGWINCH, lambda *_: None)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    return woken


def _end(number: int, frame: FrameType | None) -> None:
    """The terminal is to be left as it was."""
    raise KeyboardInterrupt
