"""The Serve application: one deployment, each of whose replicas is another replica of the cluster.

The rule: a replica decides nothing. It takes requests as Serve gives them and emulates.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import ray
from ray import serve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bench.ray_serve.ingress import Pieces
from bench.ray_serve.ledger import Ledger
from bench.ray_serve.service import EMULATOR, Service
from bench.ray_serve.setups import Scaling, Setup, deployment_options
from bench.ray_serve.wire import BadRequestError, error_body, models_body
from fmedge.sched.emulation import ReplicaSpec

APPLICATION = "emulated"
NAMESPACE = "serve"  # where Serve's own actors are
TAKE_TIMEOUT_S = 60.0


class EmulatedModel:
    """A replica of the deployment. emulator: see Service."""

    async def __init__(
        self, ledger: ActorHandle, emulator: str, load_s: float, chunk_s: float
    ) -> None:
        holder = serve.get_replica_context().replica_id.to_full_id_str()
        encoded = await asyncio.wait_for(ledger.take.remote(holder), TAKE_TIMEOUT_S)
        spec = msgspec.json.decode(encoded, type=ReplicaSpec)
        self._model = spec.model
        self._service = Service(spec, emulator, chunk_s=chunk_s)
        await asyncio.sleep(load_s)

    async def __call__(self, request: Request) -> Response:
        """What comes through Serve's own ingress."""
        match request.url.path:
            case "/v1/completions" if request.method == "POST":
                pass
            case "/v1/models":
                return Response(models_body(self._model), media_type="application/json")
            case "/health":
                return Response(b"{}", media_type="application/json")
            case path:
                return _error(404, f"There is no {request.method} {path}.")
        try:
            content_type, pieces = await self._service.open(await request.body())
        except BadRequestError as error:
            return _error(400, str(error))
        return StreamingResponse(pieces, media_type=content_type)

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """What comes through the handle."""
        async with aclosing(self._service.stream(body)) as pieces:
            async for piece in pieces:
                yield piece


def _error(status: int, message: str) -> Response:
    return Response(error_body(message), status_code=status, media_type="application/json")


def _is_alive(replica: str) -> bool:
    """Whether Serve's actor of that name still runs."""
    try:
        ray.get_actor(replica, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def deploy(
    setup: Setup,
    specs: tuple[ReplicaSpec, ...],
    *,
    port: int,
    scaling: Scaling,
    emulator: str = EMULATOR,
    chunk_s: float = 0.0,
) -> tuple[DeploymentHandle, ActorHandle]:
    """The running application, and the ledger of its replicas. Ray must be up; with Serve's own
    ingress the application answers on `port` of 127.0.0.1."""
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    if setup.ingress == "handle":
        serve.start(proxy_location="Disabled", logging_config=quiet)
    else:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            logging_config=quiet,
        )
    encoded = [(spec.name, msgspec.json.encode(spec)) for spec in specs]
    ledger = ray.remote(Ledger).options(num_cpus=0).remote(encoded, _is_alive)
    slots = max(spec.engine.slots for spec in specs)
    deployment = serve.deployment(
        EmulatedModel,
        name="model",
        logging_config=quiet,
        **deployment_options(setup, slots, len(specs), scaling),
    )
    handle = serve.run(
        deployment.bind(ledger, emulator, scaling.load_s, chunk_s),
        name=APPLICATION,
        route_prefix=None if setup.ingress == "handle" else "/",
        logging_config=quiet,
    )
    return handle, ledger


def through(handle: DeploymentHandle) -> Pieces:
    """The deployment as a function of a request's body, called through its handle."""
    calls = handle.options(stream=True, method_name="stream")

    async def pieces(body: bytes) -> AsyncGenerator[bytes, None]:
        replies = calls.remote(body)
        try:
            async for piece in replies:
                yield piece
        finally:
            replies.cancel()

    return pieces
