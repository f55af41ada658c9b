"""Which user owns the other end of a loopback connection, from Linux's /proc/net."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# The sockets of gRPC and Java are IPv6 and hold IPv4 addresses, so theirs comes first: the kernel takes milliseconds
# to write a table.
_TABLES = (Path("/proc/net/tcp6"), Path("/proc/net/tcp"))
# proc(5): sl, local_address, rem_address, st, queues, tr and when, retrnsmt, uid. An address is an int32 in host
# byte order, so 127.0.0.1 is 0100007F on x86 and Arm; state 01 is an open connection.
_LOOPBACK = "(?:0{16}FFFF0000)?0100007F"
_ROW = re.compile(rf"\s*\d+: {_LOOPBACK}:([0-9A-F]{{4}}) {_LOOPBACK}:([0-9A-F]{{4}}) 01 \S+ \S+ \S+ +(\d+) ")


def is_owned_by_me(peer: str, *, port: int) -> bool:
    """Whether the socket at the other end belongs to the user that runs this program.

    Args:
        peer: as gRPC formats it, ipv4:127.0.0.1:PORT.
        port: of this end.
    """
    match = re.fullmatch(r"ipv4:127\.0\.0\.1:(\d+)", peer)
    if match is None:
        return False
    ends = (f"{int(match.group(1)):04X}", f"{port:04X}")
    # Two ends name one connection, which is in one of the tables.
    return next((int(row.group(3)) for row in _rows() if row.group(1, 2) == ends), None) == os.getuid()


def _rows() -> Iterator[re.Match[str]]:
    for table in _TABLES:
        if table.exists():
            with table.open(encoding="ascii") as lines:
                yield from filter(None, map(_ROW.match, lines))
