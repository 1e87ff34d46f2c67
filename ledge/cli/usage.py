"""condor_ledge usage: what a job used, as a table, and what that means.

JOB is a job (12.3), a cluster (12: all its jobs), or a file with job ads as condor_q -long and
condor_history -long print them; "-" is standard input. Jobs are looked for in the queue first and
then in the history. The figures of a job are those of Ledge, else LedgeUsage, else ChirpLedge...,
never mixed. Sizes are as RequestMemory counts them: 1 MiB is 1024 KiB of 1024 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time

from ledge.cli.ads import read_ads, split_ads
from ledge.errors import LedgeError
from ledge.ledger.ledger import SOURCES, Ledger, is_wanted, ledger_of
from ledge.ledger.queue import MOST_JOBS, past, queued
from ledge.ledger.table import overview, table
from ledge.policy.errors import ExpressionError
from ledge.policy.expressions import constants

_JOB = re.compile(r"[0-9]+(\.[0-9]+)?")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("usage", help="what a job used", description=__doc__)
    parser.add_argument("job", metavar="JOB", help="12.3, 12, or a file; - for standard input")
    parser.add_argument("--json", action="store_true", help="print the figures as they are")
    parser.add_argument("--source", choices=SOURCES, help="take the figures from there")
    parser.add_argument("--name", metavar="SCHEDD", help="as condor_q -name")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the ledger of each job; 1 if none has figures. Raises LedgeError."""
    by_id = _JOB.fullmatch(options.job) is not None
    ads = _from_htcondor(options.job, options.name) if by_id else read_ads(options.job)
    ledgers = _distinct([_ledger(ad, options) for ad in ads])
    if options.json:
        text = json.dumps([_as_json(ledger) for ledger in ledgers], indent=2)
    elif len(ledgers) == 1:
        text = table(ledgers[0], time.time())
    else:
        text = overview(ledgers)
    _print(text)
    return int(all(ledger.source is None for ledger in ledgers))


def _print(text: str) -> None:
    """To standard output, of which head(1) and less(1) may not want to read all."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would flush it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _from_htcondor(job: str, schedd: str | None) -> list[bytes]:
    """Of a cluster, some jobs may have left the queue and others not. Raises LedgeError."""
    ads = split_ads(queued(job, schedd))
    if not ads or "." not in job:
        try:
            found = split_ads(past(job, schedd))
        except LedgeError as error:
            if not ads:
                raise
            print(f"note: only jobs in the queue are shown: {error}", file=sys.stderr)
            found = []
        if len(found) == MOST_JOBS:
            print(f"note: the history was read for the last {MOST_JOBS} jobs", file=sys.stderr)
        ads += found
    if not ads:
        remedy = "condor_ledge usage --name SCHEDD asks another schedd"
        raise LedgeError(f"job {job} is neither in the queue nor in the history", remedy)
    return ads


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
