"""Errors of the test pool.

PoolError
    NeedsError         the host lacks something; the message says what mends it
    MachineError       the virtual machine does not do what it should
        MachineTimeout
    CommandError       a command in the guest failed
    JobEnded           a job was held, removed or done while something else was awaited
    JobTimeout         a job's user log did not show the event in time
"""

from __future__ import annotations


class PoolError(Exception):
    """Anything that went wrong with the pool."""


class NeedsError(PoolError):
    """The host lacks something; each line names it and its remedy."""


class MachineError(PoolError):
    """The virtual machine does not do what it should."""


class MachineTimeout(MachineError):
    """The virtual machine did not come up in time."""


class CommandError(PoolError):
    """A command in the guest ended with a code other than 0."""


class JobEnded(PoolError):
    """A job was held, removed or done while something else was awaited."""


class JobTimeout(PoolError):
    """A job's user log did not show the event in time."""
