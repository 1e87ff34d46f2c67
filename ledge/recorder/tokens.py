"""The node's tokens, as far as they can be judged without the key that signed them.

To a client of HTCondor's, a token that has expired looks like a schedd that is down: "Failed to
connect to schedd.". A token is a JSON Web Token (RFC 7519): its second part is JSON in base64url,
and says when it expires.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time

_LARGEST_FILE = 65536
_NEVER = float("inf")
_HOW = "condor_token_create on the access point makes one (docs/recording.md)"


def token_problem(directory: str | None, now: float) -> str:
    """Why the tokens in a directory will not do, and what will; empty if that cannot be seen.

    `directory` is None where HTCondor chooses; `now` is in seconds since 1970.
    """
    if directory is None:
        return ""
    try:
        ends = [end for name in _names(directory) for end in _ends(os.path.join(directory, name))]
    except OSError as error:
        return f"no token can be read: {error.filename}: {error.strerror}; {_HOW}"
    if not ends:
        return f"there is no token in {directory}; {_HOW}"
    if max(ends) > now:
        return ""
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(max(ends)))
    return f"the token in {directory} expired at {date}; {_HOW}"


def versions(directory: str | None) -> list[tuple[str, int]]:
    """What tells whether something has changed in there: names and times."""
    found = []
    with contextlib.suppress(OSError):
        for name in _names(directory) if directory is not None else []:
            found.append((name, os.stat(os.path.join(str(directory), name)).st_mtime_ns))
    return found


def _names(directory: str) -> list[str]:
    """Raises OSError."""
    return sorted(name for name in os.listdir(directory) if not name.startswith("."))


def _ends(path: str) -> list[float]:
    """When each token of a file expires; one that is not understood is left to the schedd."""
    with open(path, "rb") as file:
        lines = [line.strip() for line in file.read(_LARGEST_FILE).splitlines()]
    return [_end(line) for line in lines if line and not line.startswith(b"#")]


def _end(token: bytes) -> float:
    part = token.partition(b".")[2].partition(b".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
        return float(claims.get("exp", _NEVER))
    except (ValueError, TypeError, AttributeError):
        return _NEVER
