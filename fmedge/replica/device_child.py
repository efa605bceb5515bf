"""One process of a device server: llama.cpp's RPC server, for one client at a time.

The supervisor (`server/device_server.py`) hands connections over; a client that breaks
the protocol takes this process alone along. Run as `python -m fmedge.replica.device_child` with a
JSON object.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec

from fmedge._native import handover
from fmedge.errors import NativeError


class ChildSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the child's one argument says; limits: bytes by device name, in the order offered."""

    control: int
    table: int
    row: int
    parent_pid: int
    threads: int
    limits: dict[str, int]


def main(arguments: list[str]) -> int:
    # A terminal's Ctrl-C reaches the whole group; the supervisor decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        settings = msgspec.json.decode(arguments[0].encode(), type=ChildSettings)
    except (IndexError, msgspec.MsgspecError):
        sys.stderr.write("fmedge.replica.device_child is started by fmedge itself, not by hand.\n")
        return 2
    os.environ.pop("LD_PRELOAD", None)
    try:
        from fmedge._native import rpc

        handover.start(
            settings.control, settings.table, settings.row, settings.parent_pid, settings.limits
        )
        rpc.serve(settings.threads, tuple(settings.limits))
    except NativeError as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
