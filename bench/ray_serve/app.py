"""The Serve application: one deployment, each of whose replicas is another replica of the cluster.

The rule: a replica decides nothing. It takes requests as Serve gives them and emulates.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib import import_module
from typing import Any

import msgspec
import ray
from ray import serve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bench.ray_serve.ledger import Ledger
from bench.ray_serve.setups import Scaling, Setup, deployment_options
from bench.ray_serve.wire import (
    Answer,
    BadRequestError,
    error_body,
    models_body,
    opened,
    read,
)
from fmedge.errors import RequestError
from fmedge.sched.emulation import ReplicaSpec

APPLICATION = "emulated"
EMULATOR = "fmedge.replica.emulated.emulator:Emulator"
NAMESPACE = "serve"  # where Serve's own actors are
TAKE_TIMEOUT_S = 60.0


class EmulatedModel:
    """A replica of the deployment. emulator: "module:class" of what stands for the hardware."""

    async def __init__(
        self, ledger: ActorHandle, emulator: str, load_s: float, chunk_s: float
    ) -> None:
        holder = serve.get_replica_context().replica_id.to_full_id_str()
        encoded = await asyncio.wait_for(ledger.take.remote(holder), TAKE_TIMEOUT_S)
        self._spec = msgspec.json.decode(encoded, type=ReplicaSpec)
        self._chunk_s = chunk_s
        self._emulator, self._vocab, self._pieces = _open(emulator, self._spec)
        await asyncio.sleep(load_s)

    async def __call__(self, request: Request) -> Response:
        """What comes through Serve's own ingress."""
        match request.url.path:
            case "/v1/completions" if request.method == "POST":
                pass
            case "/v1/models":
                return Response(models_body(self._spec.model), media_type="application/json")
            case "/health":
                return Response(b"{}", media_type="application/json")
            case path:
                return _error(404, f"There is no {path}.")
        try:
            answer = self._answer(await request.body())
            body = await opened(answer.body())
        except (BadRequestError, RequestError) as error:
            return _error(400, str(error))
        return StreamingResponse(body, media_type=answer.content_type)

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """What comes through the handle; a bad request is answered by an error's document."""
        try:
            pieces = await opened(self._answer(body).body())
        except (BadRequestError, RequestError) as error:
            yield error_body(str(error))
            return
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    def _answer(self, body: bytes) -> Answer:
        ask = read(body)
        if isinstance(ask.prompt, str):
            if self._vocab is None:
                raise BadRequestError("`prompt` must be token ids.")
            prompt = self._vocab.tokenize(ask.prompt, add_special=True, parse_special=False)
        else:
            prompt = array("i", ask.prompt).tobytes()
        return Answer(ask, self._emulator, self._pieces, prompt=prompt, chunk_s=self._chunk_s)


def _open(emulator: str, spec: ReplicaSpec) -> tuple[Any, Any, Mapping[int, bytes]]:
    """The emulator, its vocabulary and the text of its tokens. Without a model file, as where only
    Ray's own cost is measured, there is no vocabulary, and all tokens have the same text."""
    from fmedge._native.vocab import Vocab
    from fmedge.models.text import PieceTable

    module, _, name = emulator.partition(":")
    vocab = Vocab.open(spec.engine.model_path) if spec.engine.model_path else None
    pieces = PieceTable(vocab) if vocab is not None else defaultdict(lambda: b" x")
    return getattr(import_module(module), name)(spec, vocab), vocab, pieces


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
