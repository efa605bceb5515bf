"""How Ray Serve is set up: what users get who change nothing, and what its documentation offers
those who want more.

The rule: only settings of Ray's own, each with the page that names it; nothing of the request path
is replaced. Pages are those of docs.ray.io/en/latest/serve, "Performance Tuning" where not said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from bench.servers import free_port

Ingress = Literal["proxy", "haproxy", "handle"]

DEFAULT_MAX_ONGOING = 5  # Ray 2.60's, as its "Configure Ray Serve deployments" says
DELAY_S = (30.0, 600.0)  # Ray's own before it scales up and down: "Ray Serve Autoscaling"
AUTOSCALING_SHARE = 0.75

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a cluster of this machine; no token file in anybody's home
}
# One loop for a replica's code and Serve's, buffered logs, gRPC between actors, no collection of
# what was there at start.
_OPTIMISED = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
# The documented minimum of 30 s is for load balancers outside, which need time to notice.
_END_SOON = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
}


class Setup(Struct, frozen=True, kw_only=True):
    """ingress: how requests come in. "proxy" is Serve's own in Python, with power of two choices;
    "haproxy" Serve's HAProxy, which sends to the replica with the fewest connections, where
    requests beyond max_ongoing_requests wait; "handle" a small server of ours that calls the
    deployment through its handle, with power of two choices and without the proxy's hop.
    is_optimised: RAY_SERVE_THROUGHPUT_OPTIMIZED. matches_slots: max_ongoing_requests is what a
    replica decodes at once. scales: replicas by queue length instead of all from the start.
    """

    name: str
    ingress: Ingress = "proxy"
    is_optimised: bool = False
    matches_slots: bool = False
    scales: bool = False


class Scaling(Struct, frozen=True, kw_only=True):
    """Of a set-up that scales; the names are Ray's. target_ongoing_requests 0:
    AUTOSCALING_SHARE of the slots. load_s: what a new replica takes to load its model."""

    min_replicas: int = 1
    max_replicas: int = 0
    target_ongoing_requests: float = 0.0
    upscale_delay_s: float = DELAY_S[0]
    downscale_delay_s: float = DELAY_S[1]
    load_s: float = 0.0


SETUPS = {
    setup.name: setup
    for setup in (
        Setup(name="default"),
        Setup(name="tuned", ingress="handle", is_optimised=True, matches_slots=True),
        Setup(name="tuned-proxy", is_optimised=True, matches_slots=True),
        Setup(name="tuned-haproxy", ingress="haproxy", is_optimised=True, matches_slots=True),
        Setup(
            name="autoscaling", ingress="handle", is_optimised=True, matches_slots=True, scales=True
        ),
    )
}


def environment(setup: Setup, folder: Path) -> dict[str, str]:
    """Variables that must stand before Ray is imported; its actors take them from the driver.
    folder: where an HAProxy of this set-up keeps its files."""
    variables = dict(_QUIET | _END_SOON)
    if setup.is_optimised:
        variables |= _OPTIMISED
    if setup.ingress == "haproxy":
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        }
    else:
        # the optimised flags alone would take the proxy away and leave replicas on ports of theirs
        variables["RAY_SERVE_ENABLE_DIRECT_INGRESS"] = "0"
    return variables


def deployment_options(setup: Setup, slots: int, replicas: int, scaling: Scaling) -> dict[str, Any]:
    """What `serve.deployment` is given. slots: of one replica; replicas: how many there may be."""
    options: dict[str, Any] = {
        "max_ongoing_requests": slots if setup.matches_slots else DEFAULT_MAX_ONGOING,
        # a replica waits, it does not compute: no share of a core is its own
        "ray_actor_options": {"num_cpus": 0},
        # what is under way ends; a replica that was scaled down keeps nothing else waiting
        "graceful_shutdown_timeout_s": 60.0,
    }
    if not setup.scales:
        return options | {"num_replicas": replicas}
    target = scaling.target_ongoing_requests or max(1.0, AUTOSCALING_SHARE * slots)
    return options | {
        "autoscaling_config": {
            "min_replicas": min(scaling.min_replicas, replicas),
            "max_replicas": min(scaling.max_replicas or replicas, replicas),
            "target_ongoing_requests": target,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        }
    }
