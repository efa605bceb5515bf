"""`fmedge device-server`: this machine's devices, offered to a fmedge elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from fmedge.errors import ConfigError

DEFAULT_LISTEN = "127.0.0.1:50052"
GIB = 1 << 30
MAX_GIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT",
        help=f"IPv4 address to listen on; port 0 takes a free one [{DEFAULT_LISTEN}]",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=_threads, default=0, metavar="N",
        help="CPU threads of a client's work; 0 is all physical cores [0]",
    )  # fmt: skip
    parser.add_argument(
        "--memory-gib", type=_gib, metavar="M",
        help="what clients together may have of each device [all that is free now]",
    )  # fmt: skip
    parser.add_argument(
        "--devices", metavar="LIST",
        help="ggml devices to offer [all GPUs; the CPU where there are none]",
    )  # fmt: skip
    parser.add_argument(
        "--max-clients", type=int, default=8, metavar="N", help="clients at once [8]"
    )
    parser.add_argument("--verbose", action="store_true", help="log more of what happens")
    # of a command that starts a server for itself, as in `fmedge serve`
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    host, port = _address(args.listen)
    from fmedge._native.devices import list_devices
    from fmedge._native.threads import default_threads
    from fmedge.server.device_server import DeviceServerSettings, limits_of, serve_devices

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    wanted = None if args.devices is None else [d for d in args.devices.split(",") if d]
    limits = limits_of(list_devices(), wanted, args.memory_gib and int(args.memory_gib * GIB))
    settings = DeviceServerSettings(
        host=host,
        port=port,
        threads=args.threads or default_threads(),
        limits=limits,
        max_clients=args.max_clients,
    )
    if not host.startswith("127."):
        sys.stderr.write(
            f"fmedge: warning: {host} can be reached from other machines, and llama.cpp's RPC "
            "protocol has neither authentication nor encryption: whoever reaches this port can "
            "use, read and crash what is computed here. Use it in a network that you trust alone.\n"
        )

    def on_listening(endpoint: str) -> None:
        offered = ", ".join(f"{name} {nbytes / GIB:.3g} GiB" for name, nbytes in limits.items())
        print(
            f"fmedge device-server: listening on {endpoint}, {settings.threads} threads: {offered}",
            flush=True,
        )

    asyncio.run(serve_devices(settings, on_listening, args.lifeline_fd))
    return 0


def _address(text: str) -> tuple[str, int]:
    import ipaddress

    host, separator, port = text.rpartition(":")
    try:
        address = str(ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        address = ""
    if not separator or not address:
        raise ConfigError(
            f"--listen {text}: expected an IPv4 address and a port, such as {DEFAULT_LISTEN} "
            "(llama.cpp's RPC protocol has no IPv6)"
        )
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"--listen {text}: the port must be a number from 0 to 65535")
    return address, int(port)


def _threads(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 1024:
        raise argparse.ArgumentTypeError("must lie between 0 and 1024")
    return number


def _gib(text: str) -> float:
    gib = float(text)
    if not 0 < gib <= MAX_GIB:  # NaN is none of it either
        raise argparse.ArgumentTypeError("must be more than 0 GiB, and no absurd amount")
    return gib
