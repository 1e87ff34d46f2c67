"""The addresses and ports that jobs may have, and who has which. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

from ledge.errors import LedgeError

PREFIX = "ledge"
_SMALLEST = 8  # the network's own address, the gateway's, that of broadcasts, and some jobs


class RangeError(LedgeError):
    """LEDGE_NETWORK_ADDRESSES or LEDGE_NETWORK_PORTS is no range."""


class NoneLeft(LedgeError):
    """More jobs, or more open ports, than the range has."""


class Addresses:
    """A range such as 100.127.0.0/17: the gateway's address, and one for each job by number."""

    def __init__(self, text: str) -> None:
        """Raises RangeError."""
        try:
            self.network = IPv4Network(text)
        except (AddressValueError, NetmaskValueError, ValueError) as error:
            problem = f"LEDGE_NETWORK_ADDRESSES: {error}"
            raise RangeError(problem, "expected IPv4 addresses such as 100.127.0.0/17") from None
        if self.network.num_addresses < _SMALLEST:
            raise RangeError(f"LEDGE_NETWORK_ADDRESSES: {text} is too small", "at least a /29")

    @property
    def gateway(self) -> str:
        """The node's own address towards the jobs."""
        return str(self.network[1])

    def count(self) -> int:
        """How many jobs can have an address."""
        return self.network.num_addresses - 3

    def of(self, number: int) -> str:
        """The address of the job with this number, from 0 on."""
        return str(self.network[number + 2])

    def free(self, taken: Collection[int], last: int) -> int:
        """The first free number after the one given last. Raises NoneLeft.

        In turn: so that what is still on its way to a job that has gone finds no other there.
        """
        for step in range(1, self.count() + 1):
            number = (last + step) % self.count()
            if number not in taken:
                return number
        problem = f"all {self.count()} addresses of {self.network} are in use"
        raise NoneLeft(problem, "a larger range in LEDGE_NETWORK_ADDRESSES")


class Ports:
    """A range such as 61000-61999: the node's ports that are opened for jobs."""

    def __init__(self, text: str) -> None:
        """Raises RangeError; an empty text is an empty range."""
        self.text = text
        first, dash, last = text.partition("-")
        if not text:
            self.ports = range(0)
        elif first.strip().isdigit() and (last.strip().isdigit() or not dash):
            self.ports = range(int(first), int(last or first) + 1)
        else:
            raise RangeError(f"LEDGE_NETWORK_PORTS: {text!r:.80}", "expected such as 61000-61999")
        if text and (not self.ports or not 0 < self.ports[0] <= self.ports[-1] < 65536):
            raise RangeError(f"LEDGE_NETWORK_PORTS: {text}", "expected ports, the lower one first")

    def free(self, taken: Collection[int], last: int, count: int) -> list[int]:
        """So many free ports, in turn after the one given last. Raises NoneLeft."""
        size = len(self.ports)
        start = last + 1 - self.ports[0] if last in self.ports else 0
        turn = [self.ports[(start + step) % size] for step in range(size)]
        found = [port for port in turn if port not in taken][:count]
        if len(found) < count:
            problem = f"fewer than {count} ports are left of LEDGE_NETWORK_PORTS ({self.text or 0})"
            raise NoneLeft(problem, "a larger range")
        return found


def device(number: int) -> str:
    """The name of the node's end."""
    return f"{PREFIX}{number}"


def number_of(name: str) -> int | None:
    """The number in the name of a device; None if it is none of ours."""
    digits = name[len(PREFIX) :] if name.startswith(PREFIX) else ""
    return int(digits) if digits.isdecimal() and device(int(digits)) == name else None
