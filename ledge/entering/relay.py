"""Between the caller's terminal or pipes and those of the command: bytes, window sizes, its end.

None of the caller's own descriptors goes into the job: whoever can trace the command there could
open anew, for writing, what root had opened for reading.
"""

from __future__ import annotations

import _signal
import _socket
import fcntl
import os
import select
import struct
import termios
import tty
from sys import byteorder

from ledge.job import report
from ledge.kernel.signalfd import open_signals, read_signals

_MOST_PENDING = 1 << 16
_ONE_DESCRIPTOR = 4
_ENDING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)


class Relay:
    """`into` is where the command reads from, `outs` where each of its outputs is to be written."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.report = report.Report()
        self.into: int | None = None
        self.outs: dict[int, int] = {}
        self.terminal = False
        self.ended_by: int | None = None
        self._pending = b""
        self._reads = True
        self._saved: list[object] | None = None
        self._signals = open_signals((*_ENDING, _signal.SIGWINCH))

    def connect(self, into: int, outs: dict[int, int]) -> None:
        """The command has pipes; these ends are ours."""
        self.into, self.outs = into, outs
        os.set_blocking(into, False)

    def run(self) -> None:
        """Relay until the command has ended, or a signal ends us (`ended_by`)."""
        try:
            while not self._is_over():
                self._round(None)
            while self.outs and self.ended_by is None and self._round(0):
                pass  # what it has written last
        finally:
            self.restore()

    def restore(self) -> None:
        """Give the caller his terminal back as it was."""
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None

    def _is_over(self) -> bool:
        told = self.report
        failed = told.failed_step is not None or told.exec_errno is not None
        return failed or told.status is not None or self.ended_by is not None

    def _round(self, timeout: int | None) -> bool:
        """One look at everything; False if nothing came from the command."""
        poll = select.poll()
        if not self._is_over():
            poll.register(self.socket, select.POLLIN)
            poll.register(self._signals, select.POLLIN)
            if self._pending and self.into is not None:
                poll.register(self.into, select.POLLOUT)
            elif self._reads and self.into is not None:
                poll.register(0, select.POLLIN)
        for fd in self.outs:
            writing = select.POLLOUT if fd == self.into and self._pending else 0
            poll.register(fd, select.POLLIN | writing)
        came = False
        for fd, events in poll.poll(timeout):
            came = self._attend(fd, events) or came
        return came

    def _attend(self, fd: int, events: int) -> bool:
        if fd == self.socket.fileno():
            self._hear()
        elif fd == self._signals:
            self._signalled()
        elif fd == 0:
            self._read()
        if fd == self.into and events & (select.POLLOUT | select.POLLERR):
            self._write()
        if fd in self.outs and events & ~select.POLLOUT:
            return self._pass_on(fd)
        return False

    def _hear(self) -> None:
        """The waiter tells something; its end is that of the job, if it has not told another."""
        data, ancillary, _, _ = self.socket.recvmsg(4096, _socket.CMSG_LEN(_ONE_DESCRIPTOR))
        for level, kind, payload in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self._begin(int.from_bytes(payload[:_ONE_DESCRIPTOR], byteorder))
        report.add(self.report, data)
        if not data:
            self.report.status = int(_signal.SIGKILL)

    def _begin(self, master: int) -> None:
        """The command has this terminal: ours is raw from now on."""
        if not self.terminal or self.into is not None or not os.isatty(master):
            os.close(master)
            return
        self.connect(master, {master: 1})
        self._resize()
        self._saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)  # what was typed by now is for the command

    def _signalled(self) -> None:
        for told in read_signals(self._signals):
            if told.signo == _signal.SIGWINCH:
                self._resize()
            else:
                self.ended_by = told.signo

    def _resize(self) -> None:
        if self.terminal and self.into is not None:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(struct.calcsize("HHHH")))
            fcntl.ioctl(self.into, termios.TIOCSWINSZ, size)

    def _read(self) -> None:
        try:
            self._pending = os.read(0, _MOST_PENDING)
        except OSError:
            self._pending = b""
        self._reads = bool(self._pending)
        if not self._reads:
            self._close_into()

    def _write(self) -> None:
        assert self.into is not None
        try:
            self._pending = self._pending[os.write(self.into, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # the command reads no more
            self._pending, self._reads = b"", False
            self._close_into()

    def _close_into(self) -> None:
        if self.into is not None and not self.terminal:
            os.close(self.into)
            self.into = None

    def _pass_on(self, fd: int) -> bool:
        try:
            data = os.read(fd, _MOST_PENDING)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the last process with this terminal has gone
        if not data:
            del self.outs[fd]
        self._deliver(self.outs.get(fd, 1), data)
        return bool(data)

    def _deliver(self, out: int, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(out, data) :]
            except BlockingIOError:
                select.select([], [out], [])
            except OSError:  # nobody reads us: as a command in a pipe
                self.ended_by = int(_signal.SIGPIPE)
                return
