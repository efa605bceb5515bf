"""What each front is: its program, its files and its command line.

The rule: values in, values out; `start` writes and runs them. Endpoints are URLs without a path,
such as http://127.0.0.1:9001.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

LONGEST_S = 3600  # no front ends a request before the client does
MOST_CONNECTIONS = 8000  # of clients; twice as many descriptors are within usual hard limits
MOST_WAITING = 100_000  # nor sends one away that a replica could take later


@dataclass(frozen=True)
class Place:
    """Where a front runs: `folder` for its files, its ports, and what stands behind it. slots:
    what one endpoint decodes at once. model: the one that they all serve. key: a bearer token that
    clients have, for what insists on one."""

    folder: Path
    port: int
    metrics_port: int
    endpoints: tuple[str, ...]
    slots: int
    model: str
    key: str

    @property
    def hosts(self) -> list[str]:
        return [urlsplit(endpoint).netloc for endpoint in self.endpoints]


@dataclass(frozen=True)
class Launch:
    """Files to write, name to text; arguments after the program; further environment variables."""

    arguments: Sequence[str]
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """`ready_path` answers 200 once it can forward. takes_ids: prompts may be token ids."""

    program: str
    policy: str
    launch: Callable[[Place], Launch]
    ready_path: str = "/health"
    takes_ids: bool = True


def _nginx(place: Place) -> Launch:
    servers = "\n".join(f"    server {host} max_fails=0;" for host in place.hosts)
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"  {kind}_temp_path {place.folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = f"""\
{user}
daemon off;
worker_processes 1;
pid {place.folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {MOST_CONNECTIONS * 2}; }}
http {{
  access_log off;
{temporary}
  client_max_body_size 64m;
  upstream replicas {{
    least_conn;
{servers}
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{place.port};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering on;
      proxy_read_timeout {LONGEST_S}s;
      proxy_send_timeout {LONGEST_S}s;
      proxy_next_upstream off;
    }}
  }}
}}
"""
    return Launch(
        ["-p", str(place.folder), "-c", "nginx.conf", "-e", "stderr"],
        {"nginx.conf": configuration},
    )


def _haproxy(place: Place, *, waits: bool) -> Launch:
    """waits: requests beyond an endpoint's slots wait in the proxy, for whichever is free first."""
    limit = f" maxconn {place.slots}" if waits else ""
    servers = "\n".join(
        f"    server r{number} {host}{limit}" for number, host in enumerate(place.hosts)
    )
    configuration = f"""\
global
    maxconn {MOST_CONNECTIONS}
    nbthread 1
    tune.bufsize 65536
defaults
    mode http
    timeout connect 5s
    timeout client {LONGEST_S}s
    timeout server {LONGEST_S}s
    timeout queue {LONGEST_S}s
    option http-no-delay
    retries 0
frontend front
    bind 127.0.0.1:{place.port}
    default_backend replicas
backend replicas
    balance leastconn
    http-reuse safe
{servers}
"""
    return Launch(["-db", "-f", str(place.folder / "haproxy.cfg")], {"haproxy.cfg": configuration})


def _haproxy_at_once(place: Place) -> Launch:
    return _haproxy(place, waits=False)


def _haproxy_waiting(place: Place) -> Launch:
    return _haproxy(place, waits=True)


def _router(place: Place, policy: str) -> list[str]:
    """What the routers of SGLang and vLLM, of one descent, have in common."""
    return [
        "--host", "127.0.0.1", "--port", str(place.port), "--worker-urls", *place.endpoints,
        "--policy", policy,
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(place.metrics_port),
        "--worker-startup-check-interval", "1", "--worker-startup-timeout-secs", "60",
        "--request-timeout-secs", str(LONGEST_S), "--max-concurrent-requests", str(MOST_WAITING),
        "--disable-retries", "--disable-circuit-breaker",
    ]  # fmt: skip


def _sglang_router(place: Place) -> Launch:
    return Launch(["launch", *_router(place, "power_of_two"), "--log-level", "warn"])


def _vllm_router(place: Place) -> Launch:
    return Launch([*_router(place, "power_of_two"), "--log-level", "warning"])


def _litellm(place: Place) -> Launch:
    configuration = {
        "model_list": [
            {
                "model_name": place.model,
                "litellm_params": {
                    "model": f"text-completion-openai/{place.model}",
                    "api_base": f"{endpoint}/v1",
                    "api_key": "none",
                    "timeout": LONGEST_S,
                    "stream_timeout": LONGEST_S,
                },
            }
            for endpoint in place.endpoints
        ],
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 0, "allowed_fails": 0},
        "general_settings": {"master_key": place.key},
        "litellm_settings": {"telemetry": False, "set_verbose": False},
    }
    return Launch(
        [
            "--config", str(place.folder / "config.json"), "--host", "127.0.0.1",
            "--port", str(place.port), "--num_workers", "1",
        ],
        {"config.json": json.dumps(configuration)},
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )  # fmt: skip


FRONTS = {
    "nginx": Front("nginx", "least connections", _nginx),
    "haproxy": Front("haproxy", "least connections", _haproxy_at_once),
    "haproxy-queue": Front("haproxy", "least connections, a queue beyond slots", _haproxy_waiting),
    "sglang-router": Front(
        "sglang-router", "power of two choices", _sglang_router, "/readiness", takes_ids=False
    ),
    "vllm-router": Front("vllm-router", "power of two choices", _vllm_router),
    "litellm": Front("litellm", "least busy", _litellm, "/health/readiness"),
}
