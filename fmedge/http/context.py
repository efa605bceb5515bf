"""What every handler needs: the dispatcher, the models by name, the settings.

The rule: a context never changes. When the configuration is read anew another takes its place for
requests that come from then on; those that are there go on with theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from fmedge import __version__
from fmedge.errors import ModelNotFoundError, UnavailableError
from fmedge.http.auth import KeyRing, api_key_id
from fmedge.http.decode import nearest
from fmedge.http.limits import read_body
from fmedge.http.promises import Promises
from fmedge.http.settings import HttpSettings

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher
    from fmedge.models.served import ServedModel

T = TypeVar("T")

_NUM_THREADS = 4


class Context:
    """`models` maps names; aliases are looked up too."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        models: Mapping[str, ServedModel],
        settings: HttpSettings,
        before: Context | None = None,
    ) -> None:
        """before: the one whose place this is to take."""
        self.dispatcher = dispatcher
        self.settings = settings
        self.keys = KeyRing(settings.api_keys)
        self.promises = Promises(settings)
        self.openapi = b""  # once somebody asked for it
        self.served: list[ServedModel] = list(dict.fromkeys(models.values()))
        self._by_name: dict[str, ServedModel] = dict(models)
        for model in self.served:
            for name in (model.name, *model.aliases):
                self._by_name.setdefault(name, model)
        self._fingerprints = {model.name: _fingerprint(model) for model in self.served}
        if before is None:
            self.started = int(time.time())
            self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="fmedge-prepare")
        else:
            self.started = before.started
            self._threads = before._threads

    def model(self, name: str | None) -> ServedModel:
        """By name or alias; None is the first model. Raises ModelNotFoundError."""
        if name is None:
            return self.served[0]
        model = self._by_name.get(name)
        if model is None:
            hint = nearest(name, self._by_name) or (
                " Served here: " + ", ".join(f"`{n}`" for n in self.names[:8]) + "."
            )
            shown = name if len(name) <= 100 else name[:100] + "..."
            raise ModelNotFoundError(f"The model `{shown}` is not served here.{hint}")
        return model

    def has(self, model: ServedModel) -> bool:
        """Whether prompts that were made for this model are for what bears its name here."""
        found = self._by_name.get(model.name)
        return found is not None and found.vocab is model.vocab

    def fingerprint(self, model: ServedModel) -> str:
        """system_fingerprint: changes with the server's version and with the model's name."""
        return self._fingerprints[model.name]

    @property
    def names(self) -> list[str]:
        """Every name and alias that a request may use."""
        return list(self._by_name)

    async def read(self, request: web.Request) -> bytes:
        """The request's body, within the limits."""
        return await read_body(request, self.settings.max_body_bytes, self.settings.body_timeout_s)

    async def prepare(self, work: Callable[[], T], *, in_thread: bool) -> T:
        """Run decoding, rendering and tokenising: here, or in a thread when it may take long."""
        if not in_thread:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def is_long(self, body: bytes) -> bool:
        """Whether handling this body would hold the loop up."""
        return len(body) > self.settings.executor_threshold_bytes

    def cache_key(self, request: web.Request, prompt_cache_key: str | None) -> str:
        """Whose KV a request may share: the holder's of its API key if keys are isolated, and
        only its own prompt_cache_key's if it has one."""
        holder = api_key_id(request)
        if prompt_cache_key:
            return hashlib.sha256(f"{holder}\0{prompt_cache_key}".encode()).hexdigest()[:32]
        return holder if self.settings.isolate_cache_by_key else ""

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Current:
    """Holds the context of requests that come now; an app cannot be given another one itself."""

    __slots__ = ("context",)

    def __init__(self, context: Context) -> None:
        self.context = context

    def change(self, models: Mapping[str, ServedModel], settings: HttpSettings) -> None:
        """Other models and settings from now on."""
        before = self.context
        self.context = Context(before.dispatcher, models, settings, before)


CURRENT: web.AppKey[Current] = web.AppKey("current", Current)


def context_of(request: web.Request) -> Context:
    """As it is now: ask once for each request."""
    return request.app[CURRENT].context


def check_still_served(request: web.Request, model: ServedModel) -> None:
    """UnavailableError for a prompt that was being made while another model took this one's name:
    its tokens would mean something else there."""
    if not context_of(request).has(model):
        raise UnavailableError(
            f"The model `{model.name}` was taken out of service while this request was prepared.",
            retry_after_s=1.0,
            code="model_replaced",
        )


def _fingerprint(model: ServedModel) -> str:
    return "fm_" + hashlib.sha256(f"{__version__}\0{model.name}".encode()).hexdigest()[:10]
