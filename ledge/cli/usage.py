"""condor_ledge usage: what a job used, as a table, and what that means.

JOB is a job (12.3), a cluster (12: all its jobs), a job event log ("log" in the submit description:
all jobs in it), or a file with job ads as condor_q -long and condor_history -long print them; "-"
is standard input. Jobs are looked for in the queue first and then in the history. The figures of a
job are those of Ledge, else LedgeUsage, else ChirpLedge..., never mixed. Sizes are as RequestMemory
counts them: 1 MiB is 1024 KiB of 1024 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time

from ledge.cli.ads import ads_of, read_text, split_ads
from ledge.errors import LedgeError
from ledge.ledger.event_log import is_event_log, jobs_of, terms
from ledge.ledger.ledger import SOURCES, Ledger, is_wanted, ledger_of
from ledge.ledger.queue import MOST_JOBS, MOST_TERMS, past, queued
from ledge.ledger.table import overview, table
from ledge.policy.errors import ExpressionError
from ledge.policy.expressions import constants

_JOB = re.compile(r"[0-9]+(\.[0-9]+)?")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("usage", help="what a job used", description=__doc__)
    words = "12.3, 12, a job event log or a file of job ads; - for standard input"
    parser.add_argument("job", metavar="JOB", help=words)
    parser.add_argument("--json", action="store_true", help="print the figures as they are")
    parser.add_argument("--source", choices=SOURCES, help="take the figures from there")
    parser.add_argument("--name", metavar="SCHEDD", help="as condor_q -name")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the ledger of each job; 1 if none has figures. Raises LedgeError."""
    ledgers = _ledgers(options)
    if options.json:
        text = json.dumps([_as_json(ledger) for ledger in ledgers], indent=2)
    elif len(ledgers) == 1:
        text = table(ledgers[0], time.time())
    else:
        text = overview(ledgers)
    _print(text)
    return int(all(ledger.source is None for ledger in ledgers))


def _ledgers(options: argparse.Namespace) -> list[Ledger]:
    if _JOB.fullmatch(options.job):
        ids = [options.job]
        return _from_htcondor(ids, ids if "." in options.job else None, options)
    text = read_text(options.job)
    if is_event_log(text):
        return _of_event_log(text, options)
    return _distinct([_ledger(ad, options) for ad in ads_of(text, options.job)])


def _print(text: str) -> None:
    """To standard output, of which head(1) and less(1) may not want to read all."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would flush it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _of_event_log(text: bytes, options: argparse.Namespace) -> list[Ledger]:
    """Those jobs in the log that HTCondor still knows, of the last clusters. Raises LedgeError."""
    jobs = jobs_of(text)
    asked = terms(jobs)
    if not jobs:
        raise LedgeError(f"{options.job}: there is no job in this log yet")
    if len(asked) > MOST_TERMS:
        _note(f"of the {len(asked)} clusters in {options.job} the last {MOST_TERMS} are shown")
        asked = asked[-MOST_TERMS:]
        jobs = [job for job in jobs if job in asked or job.partition(".")[0] in asked]
    found = _from_htcondor(asked, jobs, options)
    if len(found) < len(jobs):
        unknown = len(jobs) - len(found)
        _note(f"{unknown} of its jobs: neither in the queue nor in the history")
    return found


def _from_htcondor(
    asked: list[str], jobs: list[str] | None, options: argparse.Namespace
) -> list[Ledger]:
    """What is asked for, and of that these jobs alone; None is all. Raises LedgeError.

    Of a cluster, some jobs may have left the queue and others not.
    """
    ledgers = [_ledger(ad, options) for ad in split_ads(queued(asked, options.name))]
    if jobs is not None:
        there = {ledger.job for ledger in ledgers}
        asked = terms([job for job in jobs if job not in there])
    if asked:
        ledgers += _past(asked, options, bool(ledgers))
    found = [ledger for ledger in _distinct(ledgers) if jobs is None or ledger.job in jobs]
    if not found:
        names = f"job {asked[0]} is" if len(asked) == 1 else f"jobs {', '.join(asked)} are"
        remedy = "condor_ledge usage --name SCHEDD asks another schedd"
        raise LedgeError(f"{names} neither in the queue nor in the history", remedy)
    return found


def _past(asked: list[str], options: argparse.Namespace, optional: bool) -> list[Ledger]:
    """Those in the history; `optional`: some others are there to be shown. Raises LedgeError."""
    try:
        ads = split_ads(past(asked, options.name))
    except LedgeError as error:
        if not optional:
            raise
        _note(f"only jobs in the queue are shown: {error}")
        return []
    if len(ads) == MOST_JOBS:
        _note(f"the history was read for the last {MOST_JOBS} jobs")
    return [_ledger(ad, options) for ad in ads]


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _ledger(ad: bytes, options: argparse.Namespace) -> Ledger:
    try:
        return ledger_of(constants(ad, is_wanted), options.source)
    except ExpressionError as error:
        raise LedgeError(f"{options.job}: {error}") from None


def _distinct(ledgers: list[Ledger]) -> list[Ledger]:
    """In the order of their ids; a job that left the queue between the two looks is there twice."""
    found: dict[str, Ledger] = {}
    unnamed = []
    for ledger in ledgers:
        if "?" in ledger.job:
            unnamed.append(ledger)
        else:
            found.setdefault(ledger.job, ledger)
    in_order = sorted(found.values(), key=lambda one: [int(part) for part in one.job.split(".")])
    return in_order + unnamed


def _as_json(ledger: Ledger) -> dict[str, object]:
    return {
        "job": ledger.job,
        "owner": ledger.owner,
        "source": ledger.source,
        "reading": ledger.reading if ledger.source else None,
        "taken_unix_seconds": ledger.taken,
        "of_an_earlier_start": ledger.earlier_start,
        "wall_seconds": ledger.wall_seconds,
        "cpus": ledger.cpus,
        "request_memory_mib": ledger.request_memory_mib,
        "figures": ledger.figures,
    }
