"""condor_ledge top: the jobs of this node and what they use now, on a live screen; for root.

CPU is in cores, with a bar of what the slot has; MEM is memory that cannot be dropped, with a bar
of its limit; READ and WRITE are bytes per second of block devices, IN and OUT of the network
without loopback; PROC counts processes and threads; PRES is the share of the last ten seconds in
which a process waited, in percent, for what was waited for most: c for CPU, m for memory, i for
I/O. A column's letter sorts by it. Where the output is no terminal, a table is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from ledge.client import SOCKET
from ledge.monitoring.columns import COLUMNS
from ledge.monitoring.live import Top
from ledge.monitoring.node import look
from ledge.monitoring.view import CPU, View, table

# As often as ledged reads (ledge/daemon/sampling.py).
_PAUSE_SECONDS = 5.0
_SHORTEST_SECONDS = 0.5
_TITLES = [column.title.lower() for column in COLUMNS]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "top", help="the jobs of this node, on a live screen", description=__doc__
    )
    parser.add_argument("-b", "--batch", action="store_true", help="print a table, once")
    parser.add_argument("-n", "--rounds", type=int, metavar="NUMBER", help="look so often, and end")
    parser.add_argument(
        "-d", "--delay", type=_seconds, default=_PAUSE_SECONDS, metavar="SECONDS",
        help="between two looks; ledged reads every 5 s",
    )  # fmt: skip
    parser.add_argument("-s", "--sort", choices=_TITLES, default=_TITLES[CPU], metavar="COLUMN")
    parser.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Show or print the jobs. Raises LedgeError."""
    view = View(_TITLES.index(options.sort), options.reverse)
    if options.batch or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _print(options, view)
    else:
        Top(partial(look, options.socket), view, options.delay, options.rounds or 0).run()
    return 0


def _print(options: argparse.Namespace, view: View) -> None:
    for number in range(options.rounds or 1):
        if number:
            time.sleep(options.delay)
            print()
        for line in table(look(options.socket), view):
            print(line, flush=True)


def _seconds(text: str) -> float:
    return max(float(text), _SHORTEST_SECONDS)
