"""Files of ads in the long format, as condor_q -long and condor_status -long print them."""

from __future__ import annotations

import re
import sys

from ledge.errors import LedgeError

_OTHER_FORMATS = (b"[", b"{", b"<")


def read_ads(path: str) -> list[bytes]:
    """The ads of a file, which empty lines separate; "-" is standard input. Raises LedgeError."""
    return ads_of(read_text(path), path)


def read_text(path: str) -> bytes:
    """The text of a file; "-" is standard input. Raises LedgeError."""
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise LedgeError(f"{path}: {error.strerror}") from None


def ads_of(text: bytes, path: str) -> list[bytes]:
    """The ads of a text that was read from the path. Raises LedgeError."""
    if text.lstrip().startswith(_OTHER_FORMATS):
        remedy = "condor_q -long and condor_status -long print it"
        raise LedgeError(f"{path}: not an ad in the long format", remedy)
    ads = split_ads(text)
    if not ads:
        raise LedgeError(f"{path}: there is no ad in it")
    return ads


def split_ads(text: bytes) -> list[bytes]:
    """The ads of a text, each without the empty lines around it."""
    return [ad for ad in re.split(rb"\n[ \t\r]*\n", text) if ad.strip()]
