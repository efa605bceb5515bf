"""`fmedge ps`: what a running server serves, how busy it is, what is in memory, where and why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fmedge.cli.api import Api, ApiError
from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.cli.table import print_table, size
from fmedge.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_file(parser)
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "client")
    api = Api(server_url(config), config.client.api_key)
    status, body = api.get("/admin/status")
    if status == 401:
        raise ApiError(f"{api.url} asks for an API key: set FMEDGE_API_KEY", status=status)
    if status == 503:  # still loading: /health says how far
        _, body = api.get("/health")
        if isinstance(body, dict) and "models" in body:
            return _show_loading(body, is_json=args.json)
    if status != 200 or not isinstance(body, dict) or "load" not in body:
        raise ApiError(f"{api.url} is no fmedge server (HTTP {status} for /admin/status)")
    if args.json:
        print(json.dumps(body))
        return 0
    facts = {model["name"]: model for model in body["models"]}
    rows = []
    for model in body["load"]["models"]:
        for number, replica in enumerate(model["replicas"]):
            rows.append(_row(model, replica, facts.get(model["name"], {}), is_first=number == 0))
    print_table(
        ["MODEL", "ALIASES", "REPLICA", "STATE", "PID", "RUNNING", "WAITING", "KV", "CONTEXT",
         "RSS", "RESTARTS"],
        rows,
    )  # fmt: skip
    if body.get("residency"):
        from fmedge.cli.ps_residency import show

        print()
        show(body["residency"])
    if body.get("provisioner"):
        from fmedge.cli.ps_residency import show_provisioner

        print()
        show_provisioner(body["provisioner"])
    return 0


def server_url(config: Config) -> str:
    """The URL that was given, else where the configured server listens."""
    server = config.server
    if config.client.url:
        return config.client.url
    if server.unix_socket:
        return f"unix:{server.unix_socket}"
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::", "") else server.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if server.tls_cert else 'http'}://{host}:{server.port}"


def _row(
    model: dict[str, Any], replica: dict[str, Any], facts: dict[str, Any], *, is_first: bool
) -> list[str]:
    state, info = replica["status"], replica["status"].get("info") or {}
    kv_tokens = replica["kv_tokens"]
    shown = state["state"]
    if shown == "loading":
        shown += f" {state['load_fraction']:.0%}"
    return [
        model["name"] if is_first else "",
        ",".join(facts.get("aliases", ())) if is_first else "",
        state["name"].rpartition("/")[2],
        shown,
        str(state["pid"] or "-"),
        f"{replica['num_running']}/{info.get('slots', '?')}",
        str(replica["num_waiting"] + (model["num_waiting"] if is_first else 0)),
        f"{replica['kv_tokens_used'] / kv_tokens:.0%}" if kv_tokens else "-",
        str(info.get("ctx_size", "-")),
        size(state["rss_bytes"]),
        str(state["num_restarts"]),
    ]


def _show_loading(body: dict[str, Any], *, is_json: bool) -> int:
    if is_json:
        print(json.dumps(body))
        return 0
    fractions = body.get("load_fraction", {})
    rows = [
        [name, f"{state} {fractions.get(name, 0.0):.0%}"] for name, state in body["models"].items()
    ]
    print_table(["MODEL", "STATE"], rows)
    return 0
