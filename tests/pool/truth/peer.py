"""The other end of the cable: peer.py TCP_PORT UDP_PORT.

A stream begins with a line that says how many bytes are wanted; what follows is thrown away. A
datagram says how many datagrams are wanted; those to the next port are thrown away.
"""

from __future__ import annotations

import socket
import sys
from threading import Thread

DATAGRAM = bytes(1400)


def bound(port: int) -> socket.socket:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", port))
    return datagrams


def answer_datagrams(port: int) -> None:
    datagrams = bound(port)
    while True:
        text, sender = datagrams.recvfrom(2048)
        for _ in range(int(text)):
            datagrams.sendto(DATAGRAM, sender)


def swallow_datagrams(port: int) -> None:
    datagrams = bound(port)
    while True:
        datagrams.recv(2048)


def answer(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as file:
        wanted = int(file.readline())
        while file.read(65536):
            pass
        connection.sendall(bytes(wanted))


def main() -> None:
    tcp_port, udp_port = map(int, sys.argv[1:])
    Thread(target=answer_datagrams, args=(udp_port,), daemon=True).start()
    Thread(target=swallow_datagrams, args=(udp_port + 1,), daemon=True).start()
    listener = socket.create_server(("", tcp_port))
    while True:
        connection, _ = listener.accept()
        Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
