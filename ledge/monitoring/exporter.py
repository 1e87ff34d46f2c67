"""An HTTP server for Prometheus, built on prometheus_client, which is optional.

Whoever reaches the port may ask as often as he likes, jobs too; ledged is asked every few seconds
at most.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ledge.errors import LedgeError
from ledge.monitoring.metrics import Family, families
from ledge.monitoring.node import look

if TYPE_CHECKING:
    from prometheus_client import Metric

# As often as ledged reads (ledge/daemon/sampling.py).
KEPT_SECONDS = 5.0
_REMEDY = (
    "install python3-prometheus-client (Debian) or python3-prometheus_client (EPEL); "
    "--textfile does without"
)


class Collector:
    """What prometheus_client asks for metrics; up is 0 where ledged does not answer."""

    def __init__(self, socket: str, with_jobs: bool) -> None:
        self.socket = socket
        self.with_jobs = with_jobs
        self._lock = threading.Lock()
        self._kept: list[Family] = []
        self._until = 0.0

    def collect(self) -> Iterator[Metric]:
        """All metrics, at most KEPT_SECONDS old."""
        from prometheus_client import Metric

        for family in self._families():
            # It puts _total to the names of counters by itself.
            name = family.name[: -len("_total")] if family.type == "counter" else family.name
            metric = Metric(name, family.help, family.type)
            for labels, value in family.samples.items():
                metric.add_sample(family.name, dict(labels), value)
            yield metric

    def _families(self) -> list[Family]:
        with self._lock:
            if time.monotonic() > self._until:
                self._kept = self._asked()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._kept

    def _asked(self) -> list[Family]:
        try:
            return families(look(self.socket), self.with_jobs)
        except LedgeError:
            return families(None)


def serve(listen: tuple[str, int], collector: Collector) -> None:
    """Serve until SIGTERM or SIGINT. Raises LedgeError."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise LedgeError("prometheus_client is not installed", _REMEDY) from None
    address, port = listen
    registry = CollectorRegistry()
    registry.register(collector)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        start_http_server(port, address, registry)
    except OSError as error:
        raise LedgeError(f"cannot listen on {address} port {port}: {error.strerror}") from None
    signal.sigwait(ends)
