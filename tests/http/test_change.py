"""Another configuration for requests to come, while those that are there go on with theirs."""

from __future__ import annotations

import asyncio
import threading

from fmedge.http.context import CURRENT, Current
from fmedge.http.settings import ApiKey, HttpSettings
from tests.http.conftest import Endpoint, error_of, events_of, served

ORIGIN = {"Origin": "https://a.example"}


def current(endpoint: Endpoint) -> Current:
    assert endpoint.client.app is not None
    return endpoint.client.app[CURRENT]


async def test_keys_origins_limits_and_names_change(start):
    endpoint = await start()
    model = served(aliases=("small",))
    client = endpoint.client
    first = await client.get("/openapi.json", headers=ORIGIN)
    assert "401" not in await first.text()
    assert "Access-Control-Allow-Origin" not in first.headers
    settings = HttpSettings(
        api_keys=(ApiKey("ann", "secret"),), cors_origins=("https://a.example",),
    )  # fmt: skip
    current(endpoint).change({"tiny": model.known_as(("other",), 99)}, settings)
    assert (await client.get("/v1/models")).status == 401
    second = await client.get("/openapi.json", headers={**ORIGIN, "x-api-key": "secret"})
    text = await second.text()
    assert '"401"' in text
    assert '"other"' in text
    assert '"small"' not in text
    assert second.headers["Access-Control-Allow-Origin"] == "https://a.example"
    listed = await client.get("/v1/models", headers={"x-api-key": "secret"})
    cards = (await listed.json())["data"]
    assert {(card["id"], card["meta"]["n_ctx"]) for card in cards} == {("tiny", 99), ("other", 99)}
    full = HttpSettings(max_concurrent_requests=0)
    current(endpoint).change({"tiny": model}, full)
    error = await error_of(await client.get("/v1/models"), 503)
    assert error["code"] == "too_many_requests"
    model.close()


async def test_a_stream_goes_on_when_its_model_goes(start):
    endpoint = await start()
    endpoint.replica.hold = True
    streaming = asyncio.create_task(endpoint.complete(stream=True, max_tokens=3))
    await endpoint.replica.wait_until(lambda: bool(endpoint.replica.submitted))
    other = served("other")
    current(endpoint).change({"other": other}, HttpSettings(api_keys=(ApiKey("ann", "secret"),)))
    endpoint.replica.release()
    events = await events_of(await streaming)
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    other.close()


async def test_a_prompt_that_was_being_made_for_another_model_is_not_served(start):
    """Its tokens would be other words there."""
    endpoint = await start(HttpSettings(executor_threshold_bytes=0))
    begun, may_end = threading.Event(), threading.Event()
    model = current(endpoint).context.model("tiny")
    tokenize = model.vocab.tokenize

    def slow(*args, **fields):
        begun.set()
        assert may_end.wait(10)
        return tokenize(*args, **fields)

    model.vocab.tokenize = slow
    asking = asyncio.create_task(endpoint.complete())
    assert await asyncio.to_thread(begun.wait, 10)
    other = served()
    current(endpoint).change({"tiny": other}, HttpSettings())
    may_end.set()
    error = await error_of(await asking, 503)
    assert error["code"] == "model_replaced"
    assert not endpoint.replica.submitted
    assert (await endpoint.complete()).status == 200
    other.close()


async def test_a_model_by_other_names_shares_what_it_holds():
    model = served(aliases=("small",))
    other = model.known_as(("large",), 7)
    assert (other.aliases, other.ctx_size) == (("large",), 7)
    assert (model.aliases, model.ctx_size) == (("small",), 512)
    assert other.vocab is model.vocab
    assert other.template is model.template
    model.close()
