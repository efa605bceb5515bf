"""The endpoint as a whole: keys, limits, CORS, errors of HTTP itself, what watches it."""

from __future__ import annotations

import asyncio
import json

import pytest

from fmedge.http.settings import ApiKey, HttpSettings
from tests.http.conftest import Endpoint, error_of, events_of, served

KEYS = HttpSettings(api_keys=(ApiKey("ann", "secret-one"), ApiKey("bob", "secret-two")))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret-one"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer secret-one"}, 200),
        ({"authorization": "bearer secret-two"}, 200),
        ({"x-api-key": "secret-two"}, 200),
        ({"x-api-key": "secret-twoo"}, 401),
        ({"x-api-key": "\u00e9\u00e9"}, 401),
    ],
)
async def test_keys(start, headers, status):
    endpoint = await start(KEYS)
    response = await endpoint.client.get("/v1/models", headers=headers)
    assert response.status == status
    if status == 401:
        error = await error_of(response, 401)
        assert error["type"] == "authentication_error"
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_health_needs_no_key_but_metrics_do(start):
    endpoint = await start(KEYS)
    assert (await endpoint.client.get("/health")).status == 200
    assert (await endpoint.client.get("/metrics")).status == 401


async def test_holders_of_different_keys_share_no_kv_if_isolated(start):
    settings = HttpSettings(api_keys=KEYS.api_keys, isolate_cache_by_key=True)
    endpoint = await start(settings)
    for secret in ("secret-one", "secret-two", "secret-one"):
        body = json.dumps({"model": "tiny", "prompt": "x"}).encode()
        response = await endpoint.client.post(
            "/v1/completions", data=body, headers={"x-api-key": secret}
        )
        assert response.status == 200
    keys = [sent.cache_key for sent in endpoint.replica.submitted]
    assert keys == ["ann", "bob", "ann"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/v1/models", 405),
        ("GET", "/v1/models/absent", 404),
        ("GET", "/props?model=absent", 404),
        ("GET", "/%ff%fe", 404),
    ],
)
async def test_errors_of_http_itself_are_json(endpoint: Endpoint, method, path, status):
    response = await endpoint.client.request(method, path)
    await error_of(response, status)
    if status == 405:
        assert response.headers["Allow"]


async def test_a_large_body_is_refused(start):
    endpoint = await start(HttpSettings(max_body_bytes=1000))
    error = await error_of(await endpoint.complete(prompt="a" * 2000), 413)
    assert "1000" in error["message"]

    async def pieces():
        for _ in range(10):
            yield b" " * 200

    response = await endpoint.client.post("/v1/completions", data=pieces())
    await error_of(response, 413)


async def test_a_body_that_does_not_come_is_given_up(start):
    endpoint = await start(HttpSettings(body_timeout_s=0.05))
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.client.port)
    writer.write(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 408 " in head
    writer.close()


async def test_more_requests_than_the_limit_get_503(start):
    endpoint = await start(HttpSettings(max_concurrent_requests=1))
    endpoint.replica.hold = True
    first = asyncio.create_task(endpoint.complete())
    await endpoint.replica.wait_until(lambda: bool(endpoint.replica.submitted))
    response = await endpoint.complete()
    await error_of(response, 503)
    assert int(response.headers["Retry-After"]) >= 1
    assert (await endpoint.client.get("/health")).status == 200
    endpoint.replica.release()
    assert (await first).status == 200
    assert (await endpoint.complete()).status == 200


async def test_a_full_queue_gets_429(start):
    endpoint = await start(max_waiting=1)
    endpoint.replica.hold = True
    # 8 are with the replica (twice its slots), 1 waits, and 1 is too many.
    tasks = [asyncio.create_task(endpoint.complete()) for _ in range(10)]
    done, running = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = [task.result() for task in done]
    error = await error_of(refused, 429)
    assert error["type"] == "rate_limit_error"
    assert int(refused.headers["Retry-After"]) >= 1
    endpoint.replica.release()
    assert {(await each).status for each in running} == {200}


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings"])
async def test_what_is_refused_is_not_tokenised(start, monkeypatch, path: str):
    model = served()
    endpoint = await start(models=[model], is_ready=False)

    def tokenize(*_: object, **__: object) -> bytes:
        raise AssertionError("tokenised")

    monkeypatch.setattr(model.vocab, "tokenize", tokenize)
    body = {"messages": [{"role": "user", "content": "x"}]} if "chat" in path else {}
    body |= {"prompt": "x"} if path == "completions" else {}
    body |= {"input": "x"} if path == "embeddings" else {}
    error = await error_of(await endpoint.post(f"/v1/{path}", {"model": "tiny", **body}), 503)
    assert error["code"] == "loading"


async def test_loading_and_draining(start):
    endpoint = await start(is_ready=False)
    health = await endpoint.client.get("/health")
    assert health.status == 503
    assert await health.json() == {"status": "loading", "models": {"tiny": "loading"}}
    response = await endpoint.complete()
    await error_of(response, 503)
    assert response.headers["Retry-After"]
    endpoint.replica.become_ready()
    health = await endpoint.client.get("/health")
    assert (health.status, await health.json()) == (
        200,
        {"status": "ok", "models": {"tiny": "ready"}},
    )
    await endpoint.dispatcher.drain(0)
    assert (await (await endpoint.client.get("/health")).json())["status"] == "draining"
    await error_of(await endpoint.chat(), 503)


async def test_cors_is_off_unless_asked(endpoint: Endpoint):
    response = await endpoint.client.get("/v1/models", headers={"Origin": "http://a"})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_cors_for_given_origins(start):
    endpoint = await start(HttpSettings(cors_origins=("http://a",), api_keys=KEYS.api_keys))
    preflight = {"Access-Control-Request-Method": "POST", "Origin": "http://a"}
    response = await endpoint.client.options("/v1/chat/completions", headers=preflight)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "http://a"
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    response = await endpoint.client.get("/v1/models", headers={"Origin": "http://a"})
    assert response.status == 401
    assert response.headers["Access-Control-Allow-Origin"] == "http://a"
    response = await endpoint.client.get("/v1/models", headers={"Origin": "http://b"})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_cors_on_a_stream(start):
    endpoint = await start(HttpSettings(cors_origins=("*",)))
    response = await endpoint.complete(stream=True)
    await response.read()
    assert "Access-Control-Allow-Origin" not in response.headers
    response = await endpoint.client.post(
        "/v1/completions",
        data=b'{"model": "tiny", "prompt": "x", "stream": true}',
        headers={"Origin": "http://any"},
    )
    await response.read()
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_models(start):
    endpoint = await start(models=[served("org/one", aliases=("uno",)), served("two")])
    body = await (await endpoint.client.get("/v1/models")).json()
    assert [card["id"] for card in body["data"]] == ["org/one", "uno", "two"]
    assert [card["root"] for card in body["data"]] == ["org/one", "org/one", "two"]
    assert body["data"][0]["aliases"] == ["uno"]
    assert body["data"][0]["meta"]["n_ctx"] == 512
    for name in ("org/one", "uno"):
        card = await (await endpoint.client.get(f"/v1/models/{name}")).json()
        assert (card["id"], card["object"], card["status"]) == (name, "model", "ready")
        assert card["root"] == "org/one"


async def test_tokenize_and_back(endpoint: Endpoint):
    body = await (await endpoint.post("/tokenize", {"content": "h\u00e9<s>"})).json()
    assert body == {"tokens": [104, 0xC3, 0xA9, 256]}
    body = await (
        await endpoint.post("/tokenize", {"content": "h\u00e9", "with_pieces": True})
    ).json()
    assert body["tokens"] == [
        {"id": 104, "piece": "h"},
        {"id": 0xC3, "piece": [0xC3]},
        {"id": 0xA9, "piece": [0xA9]},
    ]
    body = await (
        await endpoint.post("/tokenize", {"content": "<s>", "parse_special": False})
    ).json()
    assert body == {"tokens": [60, 115, 62]}
    body = await (await endpoint.post("/detokenize", {"tokens": [104, 0xC3, 0xA9, 256]})).json()
    assert body == {"content": "h\u00e9<s>"}
    await error_of(await endpoint.post("/detokenize", {"tokens": [99999]}), 400)
    await error_of(await endpoint.post("/tokenize", {"content": "x", "model": "no"}), 404)


async def test_metrics_props_and_slots(endpoint: Endpoint):
    await endpoint.complete()
    text = await (await endpoint.client.get("/metrics")).text()
    assert 'fmedge_requests_total{model="tiny",outcome="stop"} 1.0' in text
    assert "fmedge_time_to_first_token_seconds_bucket" in text
    props = await (await endpoint.client.get("/props")).json()
    assert (props["total_slots"], props["model_alias"], props["eos_token"]) == (4, "tiny", "</s>")
    assert "im_start" in props["chat_template"]
    endpoint.replica.never_finish = True
    stream = await endpoint.complete(stream=True)
    await stream.content.readuntil(b"!")
    slots = await (await endpoint.client.get("/slots")).json()
    stream.close()
    assert [slot["is_processing"] for slot in slots] == [True, False, False, False]


async def test_long_bodies_are_handled_off_the_loop(start):
    endpoint = await start(HttpSettings(executor_threshold_bytes=10), [served(ctx_size=512)])
    assert (await endpoint.complete(prompt="a" * 300)).status == 200
    assert (await endpoint.post("/tokenize", {"content": "abc" * 10})).status == 200


async def test_events_are_parsable_with_many_streams_at_once(start):
    endpoint = await start()
    endpoint.replica.scripts = [f"stream {i}" for i in range(20)]
    responses = await asyncio.gather(*(endpoint.complete(stream=True) for _ in range(8)))
    texts = set()
    for response in responses:
        chunks = await events_of(response)
        texts.add("".join(c["choices"][0]["text"] for c in chunks[:-1]))
    assert texts == {f"stream {i}" for i in range(8)}
