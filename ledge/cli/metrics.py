"""condor_ledge metrics: figures of this node, its slots and its jobs for Prometheus; for root.

An HTTP server for Prometheus to ask, which needs prometheus_client; or, with --textfile, a file for
the textfile collector of node_exporter, written once. Without TLS: that is for a proxy.
"""

from __future__ import annotations

import argparse
import sys

from ledge.client import SOCKET
from ledge.errors import LedgeError
from ledge.monitoring.exporter import Collector, serve
from ledge.monitoring.exposition import SUFFIX, write_textfile
from ledge.monitoring.metrics import families
from ledge.monitoring.node import look

LISTEN = "127.0.0.1:9619"
_HIGHEST_PORT = 65535


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "metrics", help="figures of this node for Prometheus", description=__doc__
    )
    parser.add_argument(
        "--listen", type=_address, default=LISTEN, metavar="ADDRESS:PORT",
        help=f"where to serve them; default: {LISTEN}",
    )  # fmt: skip
    parser.add_argument(
        "--textfile", type=_textfile, metavar="PATH", help="write them there, once"
    )
    parser.add_argument(
        "--job-info", action="store_true", help="tell who runs in each slot: a series for each job"
    )
    parser.add_argument("--socket", default=SOCKET, metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Serve until told to end, or write the file; 1 if ledged does not answer. Raises LedgeError.

    The file is written then as well, to say so.
    """
    if options.textfile is None:
        serve(options.listen, Collector(options.socket, options.job_info))
        return 0
    try:
        node = look(options.socket)
    except LedgeError as error:
        write_textfile(options.textfile, families(None))
        print(f"condor_ledge metrics: {error}", file=sys.stderr)
        return 1
    write_textfile(options.textfile, families(node, options.job_info))
    return 0


def _address(text: str) -> tuple[str, int]:
    """An address of IPv6 stands in brackets, as in a URL."""
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text}: expected ADDRESS:PORT")
    return address.strip("[]"), int(port)


def _textfile(path: str) -> str:
    if not path.endswith(SUFFIX):
        raise argparse.ArgumentTypeError(f"{path}: node_exporter reads files ending in {SUFFIX}")
    return path
