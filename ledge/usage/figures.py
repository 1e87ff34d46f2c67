"""From the texts of control files to the figures of a usage. No I/O."""

from __future__ import annotations

from ledge.kernel.cgroup2 import parse_flat_keyed, parse_single
from ledge.usage.usage import Usage

TYPE_CHECKING = False  # what is imported below costs every job some ms
if TYPE_CHECKING:
    from typing import Callable, Optional, Union

    # Of one file, in the order of the figures' names; None is a figure that the file has not.
    Values = tuple[Optional[Union[int, float]], ...]
    Read = Callable[[bytes, str], Values]


class Files:
    """The texts of a group's files by name; None is a file that is not there.

    A file that is not among them was not read: `unread` says why not. `since` has the kernel that
    brought a file or a figure which older ones lack.
    """

    __slots__ = ("usage", "texts", "since", "unread")

    def __init__(
        self, usage: Usage, texts: dict[str, bytes | None], since: dict[str, str], unread: str
    ) -> None:
        self.usage = usage
        self.texts = texts
        self.since = since
        self.unread = unread

    def add(self, file: str, names: tuple[str, ...], read: Read) -> None:
        """Add the figures that `read` gets from a file, or why they are missing."""
        text = self.texts.get(file)
        if text is None:
            self.miss(names, self.absence(file))
            return
        try:
            values = read(text, file)
        except (ValueError, KeyError) as error:
            self.miss(names, f"{called(file)} makes no sense: {error}")
            return
        for name, value in zip(names, values):
            if value is None:
                self.usage.miss(name, f"not in {called(file)}" + self._since(name))
            else:
                self.usage.figures[name] = value

    def miss(self, names: tuple[str, ...], reason: str) -> None:
        """Note that figures were not measured, and why."""
        for name in names:
            self.usage.miss(name, reason)

    def absence(self, file: str) -> str:
        """Why a file has no text."""
        if file not in self.texts:
            return self.unread
        return f"no {called(file)}" + self._since(file)

    def _since(self, name: str) -> str:
        return f" (Linux {self.since[name]} has it)" if name in self.since else ""


def called(file: str) -> str:
    """What to call a file that is named by its path from the job's own group."""
    return f"the slice's {file[3:]}" if file.startswith("../") else file


def single(text: bytes, name: str) -> Values:
    """The number of a file that holds one."""
    return (parse_single(text, name),)


def keys(*wanted: bytes, unit: int = 1) -> Read:
    """The values of some keys of a flat keyed file, each `unit` times what it says."""

    def read(text: bytes, name: str) -> Values:
        found = parse_flat_keyed(text, name)
        return tuple([found[key] * unit if key in found else None for key in wanted])

    return read


def seconds_of(*wanted: bytes) -> Read:
    """The same of keys in microseconds."""

    def read(text: bytes, name: str) -> Values:
        found = parse_flat_keyed(text, name)
        return tuple([seconds(found.get(key)) for key in wanted])

    return read


def seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
