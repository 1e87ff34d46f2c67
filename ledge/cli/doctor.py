"""condor_ledge doctor: what is wrong with this node, what that costs, and what mends it.

Everything is tried, nothing is left behind. Run it as root: others are told what needs root. On an
access point it looks at that side. The exit status is 0 if nothing is wrong, 1 if something is lost
(warnings), 2 if jobs are not kept apart, not accounted for or not started (faults): what monitoring
makes OK, WARNING and CRITICAL of.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap

from ledge import __version__
from ledge.client import SOCKET
from ledge.doctor.examination import examine
from ledge.doctor.node import Node
from ledge.doctor.report import EXIT_STATUS, FAULT, OK, UNTOLD, WARNING, Finding, Subject

_WIDEST = 100
_NAME_WIDTH = 16
_WORDS = {OK: "ok", UNTOLD: "?", WARNING: "WARNING", FAULT: "FAULT"}
_WORD_WIDTH = 8


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "doctor", help="what is wrong with this node, and what mends it", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="print what is wrong, and no more")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print what was found; the exit status is that of the worst."""
    subjects = examine(Node(options.socket))
    status = max((subject.status for subject in subjects), key=EXIT_STATUS.__getitem__)
    if options.json:
        print(json.dumps(_as_json(subjects, status), indent=2))
    else:
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        for subject in subjects:
            _print(subject, width, options.quiet)
        if any(subject.untold == "needs root" for subject in subjects) and not options.quiet:
            print("What is marked ? is told to root: sudo condor_ledge doctor")
    return EXIT_STATUS[status]


def _as_json(subjects: list[Subject], status: str) -> dict[str, object]:
    checks = [subject.as_json() for subject in subjects]
    return {"version": __version__, "status": status, "subjects": checks}


def _print(subject: Subject, width: int, quiet: bool) -> None:
    if not subject.findings and not quiet:
        text = subject.summary or subject.untold
        _print_line(_WORDS[subject.status], f"{subject.name:{_NAME_WIDTH}}{text}", width)
    for finding in subject.findings:
        _print_finding(subject, finding, width)


def _print_finding(subject: Subject, finding: Finding, width: int) -> None:
    word = _WORDS[finding.severity]
    _print_line(word, f"{subject.name:{_NAME_WIDTH}}{finding.problem}", width)
    for name, text in (("cost", finding.cost), ("mend", finding.remedy)):
        if text:
            _print_line("", f"{name:>{_NAME_WIDTH - 2}}  {text}", width)


def _print_line(word: str, text: str, width: int) -> None:
    """A line, and what is left of it below its third column."""
    indent = " " * (_WORD_WIDTH + _NAME_WIDTH)
    # Commands and paths are to be copied: they are not broken at a hyphen.
    print(
        textwrap.fill(
            f"{word:{_WORD_WIDTH}}{text}",
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    )
