"""Text completions."""

from __future__ import annotations

import pytest

from tests.fakes import unpack
from tests.http.conftest import Endpoint, error_of, events_of, served, tokens_of


async def body_of(response):
    assert response.status == 200, await response.text()
    return await response.json()


async def test_text_prompt(endpoint: Endpoint):
    body = await body_of(await endpoint.complete())
    assert body["object"] == "text_completion"
    (choice,) = body["choices"]
    assert choice == {"index": 0, "text": "Hello, world!", "logprobs": None,
                      "finish_reason": "stop"}  # fmt: skip
    assert unpack(endpoint.last.tokens) == tokens_of("Once")
    assert body["usage"]["total_tokens"] == 4 + 13
    assert body["timings"]["predicted_n"] == 13


async def test_token_array_and_batches(endpoint: Endpoint):
    endpoint.replica.scripts = ["a", "b", "c", "d"]
    await body_of(await endpoint.complete(prompt=[65, 66]))
    assert unpack(endpoint.last.tokens) == [65, 66]
    endpoint.replica.submitted.clear()
    body = await body_of(await endpoint.complete(prompt=[[65], [66, 67]], n=2))
    assert [choice["text"] for choice in body["choices"]] == ["a", "b", "c", "d"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [unpack(s.tokens) for s in endpoint.replica.submitted] == [
        [65],
        [65],
        [66, 67],
        [66, 67],
    ]
    assert body["usage"]["prompt_tokens"] == 3
    endpoint.replica.submitted.clear()
    body = await body_of(await endpoint.complete(prompt=["x", "yy"]))
    assert [unpack(s.tokens) for s in endpoint.replica.submitted] == [[120], [121, 121]]


async def test_no_prompt_begins_a_text(endpoint: Endpoint):
    response = await endpoint.post("/v1/completions", {"model": "tiny"})
    await body_of(response)
    assert unpack(endpoint.last.tokens) == [256]


@pytest.mark.parametrize("prompt", ["Once ", [79, 110, 99, 101, 32]])
async def test_echo(endpoint: Endpoint, prompt):
    body = await body_of(await endpoint.complete(prompt=prompt, echo=True))
    assert body["choices"][0]["text"] == "Once Hello, world!"
    *chunks, _ = await events_of(await endpoint.complete(prompt=prompt, echo=True, stream=True))
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert text == "Once Hello, world!"


async def test_stream(endpoint: Endpoint):
    response = await endpoint.complete(stream=True, stream_options={"include_usage": True})
    *chunks, last, done = await events_of(response)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello, world!"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 13)
    assert last["timings"]["predicted_n"] == 13


async def test_timings_without_usage_are_in_the_last_chunk(endpoint: Endpoint):
    *chunks, _ = await events_of(await endpoint.complete(stream=True))
    assert [chunk for chunk in chunks if "timings" in chunk] == [chunks[-1]]
    assert chunks[-1]["choices"]


async def test_logprobs(endpoint: Endpoint):
    endpoint.replica.scripts = ["abc"]
    body = await body_of(await endpoint.complete(logprobs=2))
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "b", "c"]
    assert logprobs["token_logprobs"] == [-0.5] * 3
    assert logprobs["top_logprobs"][0] == {"A": -66.0, "B": -67.0, "a": -0.5}
    assert logprobs["text_offset"] == [0, 1, 2]
    *chunks, _ = await events_of(await endpoint.complete(logprobs=0, stream=True))
    found = [c["choices"][0]["logprobs"] for c in chunks if c["choices"]]
    assert [t for each in found if each for t in each["tokens"]] == ["a", "b", "c"]


async def test_best_of_runs_all_and_returns_n(endpoint: Endpoint):
    endpoint.replica.scripts = ["a", "bb", "ccc"]
    body = await body_of(await endpoint.complete(best_of=3, n=1))
    assert len(body["choices"]) == 1
    assert body["choices"][0]["logprobs"] is None
    assert len(endpoint.replica.submitted) == 3
    assert body["usage"]["completion_tokens"] == 6


async def test_suffix_uses_the_infill_tokens(endpoint: Endpoint, start):
    await body_of(await endpoint.complete(prompt="a", suffix="b"))
    assert unpack(endpoint.last.tokens) == tokens_of("<fim_pre>a<fim_suf>b<fim_mid>")
    other = await start(models=[served(has_fim=False)])
    assert (await error_of(await other.complete(suffix="b"), 400))["param"] == "suffix"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [9999]}, "prompt"),
        ({"prompt": [[9999]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
        ({"stop_token_ids": [9999]}, "stop_token_ids"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logprobs": 21}, "logprobs"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, "repetition_penalty"),
        ({"regex": "a", "grammar": 'start: "a"'}, "grammar"),
        ({"regex": "("}, "regex"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": ["a"] * 2000, "n": 2}, "prompt"),
        ({"prompt": "a" * 600}, "prompt"),
        ({"stop": ""}, "stop"),
        ({"seed": 2**70}, "seed"),
        ({"messages": []}, "messages"),
    ],
)
async def test_bad_requests_name_the_field(endpoint: Endpoint, fields, param):
    error = await error_of(await endpoint.complete(**fields), 400)
    assert error["param"] == param
    assert endpoint.replica.submitted == []


async def test_embedding_models_do_not_generate(start):
    endpoint = await start(models=[served(is_embedding=True)])
    assert (await error_of(await endpoint.complete(), 400))["param"] == "model"
    assert (await error_of(await endpoint.chat(), 400))["param"] == "model"
