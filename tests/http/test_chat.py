"""Chat completions: what comes out of scripted tokens, in one piece and streamed."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.http.conftest import (
    REASONING,
    Endpoint,
    StartEndpoint,
    error_of,
    events_of,
    served,
    tokens_of,
)  # fmt: skip

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


async def body_of(response):
    assert response.status == 200, await response.text()
    return await response.json()


async def test_answer_in_one_piece(endpoint: Endpoint):
    body = await body_of(await endpoint.chat())
    assert body["object"] == "chat.completion"
    assert body["model"] == "tiny"
    assert body["system_fingerprint"].startswith("fm_")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello, world!", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    prompt = len(endpoint.last.tokens) // 4
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 13,
        "total_tokens": prompt + 13,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert body["timings"]["prompt_ms"] == 500
    assert body["timings"]["predicted_per_second"] == 13
    assert body["timings"]["predicted_n"] == 13


async def test_template_is_applied(endpoint: Endpoint):
    await body_of(await endpoint.chat())
    expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert list(memoryview(endpoint.last.tokens).cast("i")) == tokens_of(expected)


@pytest.mark.parametrize("group", [1, 3, 100])
async def test_stream_is_the_same_answer(endpoint: Endpoint, group: int):
    endpoint.replica.group = group
    endpoint.replica.scripts = ['Gr\u00fc\u00dfe "an" \U0001f600\n']
    response = await endpoint.chat(stream=True)
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["X-Accel-Buffering"] == "no"
    *chunks, done = await events_of(response)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    content = [c["choices"][0]["delta"].get("content", "") for c in chunks]
    assert "".join(content) == 'Gr\u00fc\u00dfe "an" \U0001f600\n'
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [
        "stop"
    ]
    assert len({c["id"] for c in chunks}) == 1
    assert "usage" not in chunks[0]
    assert chunks[-1]["timings"]["prompt_n"] == 8


async def test_include_usage_adds_a_last_chunk_and_nulls_elsewhere(endpoint: Endpoint):
    response = await endpoint.chat(stream=True, stream_options={"include_usage": True})
    *chunks, last, _ = await events_of(response)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 13
    assert last["timings"]["cache_n"] == 2


async def test_n_choices_share_the_prompt_and_differ_in_seed(endpoint: Endpoint):
    endpoint.replica.scripts = ["one", "two", "three"]
    body = await body_of(await endpoint.chat(n=3, seed=5))
    assert [c["message"]["content"] for c in body["choices"]] == ["one", "two", "three"]
    assert [c["index"] for c in body["choices"]] == [0, 1, 2]
    submitted = endpoint.replica.submitted
    assert len({s.tokens for s in submitted}) == 1
    assert submitted[0].sampling.seed == 5
    assert len({s.sampling.seed for s in submitted}) == 3
    assert body["usage"]["prompt_tokens"] == len(submitted[0].tokens) // 4
    assert body["usage"]["completion_tokens"] == 3 + 3 + 5


async def test_n_choices_streamed(endpoint: Endpoint):
    endpoint.replica.scripts = ["one", "two", "three"]
    *chunks, _ = await events_of(await endpoint.chat(n=3, stream=True))
    texts = ["", "", ""]
    ends = []
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends += [choice["index"]] if choice["finish_reason"] else []
    assert texts == ["one", "two", "three"]
    assert sorted(ends) == [0, 1, 2]
    assert sum("timings" in chunk for chunk in chunks) == 1


async def test_stop_string_cuts_the_text_and_cancels(endpoint: Endpoint):
    endpoint.replica.group = 4
    endpoint.replica.never_finish = True
    body = await body_of(await endpoint.chat(stop=["rld", "zzz"]))
    assert body["choices"][0]["message"]["content"] == "Hello, wo"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 12
    assert endpoint.replica.cancelled == [endpoint.last.request_id]
    assert body["timings"]["predicted_n"] == 12


async def test_length_is_reported(endpoint: Endpoint):
    body = await body_of(await endpoint.chat(max_tokens=4, max_completion_tokens=9))
    assert body["choices"][0]["message"]["content"] == "Hell"
    assert body["choices"][0]["finish_reason"] == "length"


async def test_max_tokens_defaults_to_the_rest_of_the_context(endpoint: Endpoint):
    for fields in ({}, {"max_tokens": -1}, {"max_tokens": 10**6}, {"max_tokens": None}):
        await body_of(await endpoint.chat(**fields))
        assert endpoint.last.max_tokens == 512 - len(endpoint.last.tokens) // 4


async def test_logprobs_go_with_their_text(endpoint: Endpoint):
    endpoint.replica.scripts = ["a\u00e9b</s>"]
    body = await body_of(await endpoint.chat(logprobs=True, top_logprobs=2))
    content = body["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert [entry["bytes"] for entry in content] == [[97], [0xC3], [0xA9], [98]]
    assert content[0]["top_logprobs"] == [
        {"token": "A", "logprob": -66.0, "bytes": [65]},
        {"token": "B", "logprob": -67.0, "bytes": [66]},
    ]
    streamed = await events_of(await endpoint.chat(logprobs=True, top_logprobs=2, stream=True))
    found = []
    for chunk in streamed[:-1]:
        logprobs = chunk["choices"][0]["logprobs"]
        found += logprobs["content"] if logprobs else []
    assert found == content


async def test_logprobs_of_a_stop_string_are_cut_with_it(endpoint: Endpoint):
    body = await body_of(await endpoint.chat(logprobs=True, stop="world"))
    content = body["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == "Hello, "


async def test_reasoning_is_split_off(start):
    endpoint = await start(models=[served(template=REASONING)])
    endpoint.replica.scripts = ["<think>\nhm, yes\n</think>\n\nFine."]
    body = await body_of(await endpoint.chat())
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == "hm, yes"
    assert message["content"] == "Fine."
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    *chunks, _ = await events_of(await endpoint.chat(stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "hm, yes"
    assert "".join(d.get("content", "") for d in deltas) == "Fine."


async def test_reasoning_effort_reaches_the_template_or_is_refused(start, endpoint: Endpoint):
    thinking = "{% if enable_thinking %}T{% else %}F{% endif %}<think></think>"
    other = await start(models=[served(template=thinking)])
    await body_of(await other.chat(reasoning_effort="none"))
    assert other.last.tokens[:4] == bytes((ord("F"), 0, 0, 0))
    await body_of(await other.chat(reasoning_effort="high"))
    assert other.last.tokens[:4] == bytes((ord("T"), 0, 0, 0))
    await body_of(await other.chat(chat_template_kwargs={"enable_thinking": False}))
    assert other.last.tokens[:4] == bytes((ord("F"), 0, 0, 0))
    assert (await endpoint.chat(reasoning_effort="none")).status == 200
    error = await error_of(await endpoint.chat(reasoning_effort="high"), 400)
    assert error["param"] == "reasoning_effort"


async def test_tool_call(endpoint: Endpoint):
    endpoint.replica.scripts = [f"Let me see. {CALL}"]
    body = await body_of(await endpoint.chat(tools=[TOOL]))
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    assert endpoint.last.grammar is not None


async def test_content_is_null_beside_a_bare_tool_call(endpoint: Endpoint):
    endpoint.replica.scripts = [CALL]
    body = await body_of(await endpoint.chat(tools=[TOOL], tool_choice="required"))
    assert body["choices"][0]["message"]["content"] is None


async def test_streamed_tool_calls(endpoint: Endpoint):
    endpoint.replica.scripts = [CALL + "\n" + CALL.replace("Oslo", "Rome")]
    *chunks, _ = await events_of(await endpoint.chat(tools=[TOOL], stream=True))
    deltas = [d for c in chunks for d in c["choices"][0]["delta"].get("tool_calls", [])]
    firsts = [delta for delta in deltas if "id" in delta]
    assert [(d["index"], d["type"], d["function"]["name"]) for d in firsts] == [
        (0, "function", "get_weather"),
        (1, "function", "get_weather"),
    ]
    for index, city in enumerate(("Oslo", "Rome")):
        parts = [d["function"].get("arguments", "") for d in deltas if d["index"] == index]
        assert len(parts) > 2
        assert json.loads("".join(parts)) == {"city": city}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_tool_choice_none_shows_no_tools(endpoint: Endpoint):
    body = await body_of(await endpoint.chat(tools=[TOOL], tool_choice="none"))
    assert body["choices"][0]["message"]["content"] == "Hello, world!"
    assert endpoint.last.grammar is None
    assert len(endpoint.last.tokens) // 4 < 60


async def test_allowed_tools_limit_what_can_be_called(endpoint: Endpoint):
    other = {"type": "function", "function": {"name": "other"}}
    endpoint.replica.scripts = [CALL]
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "get_weather"}}],
        },
    }
    await body_of(await endpoint.chat(tools=[TOOL, other], tool_choice=choice))
    assert endpoint.last.grammar is not None
    assert "get_weather" in endpoint.last.grammar.source
    assert '\\"other\\"' not in endpoint.last.grammar.source


async def test_tool_results_and_calls_go_back_to_the_model(endpoint: Endpoint):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
    ]
    await body_of(await endpoint.chat(messages=messages))
    text = bytes(t for t in memoryview(endpoint.last.tokens).cast("i") if t < 256).decode()
    assert "system\nBe brief." in text
    assert "user\nA\nB" in text
    assert "12" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"regex": "[0-9]+"},
        {"grammar": 'root ::= "a" | "b"'},
        {"grammar": 'start: "a"'},
        {"guided_choice": ["yes", "no"]},
        {"guided_json": {"type": "integer"}},
        {"guided_regex": "a+"},
        {"guided_grammar": 'start: "a"'},
    ],
)
async def test_formats_become_grammars(endpoint: Endpoint, fields):
    await body_of(await endpoint.chat(**fields))
    assert endpoint.last.grammar is not None


async def test_extensions_reach_the_sampler(endpoint: Endpoint):
    await body_of(
        await endpoint.chat(
            temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.5,
            repeat_last_n=9, presence_penalty=0.25, frequency_penalty=-0.25, seed=-7,
            logit_bias={"65": 5, "66": -100}, ignore_eos=True, min_tokens=3,
            stop_token_ids=[70], cache_prompt=False, service_tier="flex", max_tokens=5,
        )
    )  # fmt: skip
    sent = endpoint.last
    sampling = sent.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (
        0.5, 0.9, 7, 0.1,
    )  # fmt: skip
    assert (sampling.repeat_penalty, sampling.penalty_last_n) == (1.5, 9)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.25, -0.25)
    assert sampling.seed == 2**64 - 7
    assert sampling.logit_bias == ((65, 5.0), (66, -100.0))
    assert (sent.ignore_eos, sent.min_tokens, sent.stop_token_ids) == (True, 3, (70,))
    assert (sent.cache_prompt, sent.priority) == (False, -10)


async def test_what_a_model_recommends_holds_where_a_request_says_nothing(start: StartEndpoint):
    model = served()
    recommended = {"temperature": 0.0, "top_k": 20, "top_p": 0.5, "repeat_penalty": 1.5}
    model.metadata = msgspec.structs.replace(model.metadata, sampling=recommended)
    endpoint = await start(models=[model])
    await body_of(await endpoint.chat())
    sampling = endpoint.last.sampling
    assert {key: getattr(sampling, key) for key in recommended} == recommended
    assert sampling.min_p == 0
    await body_of(await endpoint.chat(temperature=1, top_k=-1, repetition_penalty=1))
    sampling = endpoint.last.sampling
    assert (sampling.temperature, sampling.top_k, sampling.repeat_penalty) == (1, 0, 1)
    assert sampling.top_p == 0.5


async def test_seed_is_random_unless_given(endpoint: Endpoint):
    for _ in range(2):
        await body_of(await endpoint.chat())
    first, second = endpoint.replica.submitted
    assert first.sampling.seed != second.sampling.seed


async def test_prompt_cache_key_isolates(endpoint: Endpoint):
    for key in ("a", "a", "b", None):
        await body_of(await endpoint.chat(prompt_cache_key=key))
    keys = [sent.cache_key for sent in endpoint.replica.submitted]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == ""


async def test_harmless_fields_are_accepted(endpoint: Endpoint):
    body = await body_of(
        await endpoint.chat(
            user="u", metadata={"a": "b"}, store=False, safety_identifier="s", modalities=["text"],
            verbosity="medium", prompt_cache_retention="24h", service_tier="priority",
            parallel_tool_calls=True, audio=None, functions=None, function_call=None,
            prompt_cache_options={"mode": "implicit"}, priority=3,
        )
    )  # fmt: skip
    assert body["service_tier"] == "priority"
    assert endpoint.last.priority == 3


async def test_aliases_name_the_model(endpoint: Endpoint):
    assert (await body_of(await endpoint.chat(model="small")))["model"] == "tiny"


async def test_what_routers_add_is_accepted(endpoint: Endpoint):
    """As sglang-router 0.3.2 and vllm-router 0.1.17 pass a request on."""
    response = await endpoint.chat(
        logprobs=False, no_stop_trim=False, ignore_eos=False, continue_final_message=False,
        skip_special_tokens=True, separate_reasoning=True, stream_reasoning=True,
        return_hidden_states=False, include_reasoning=True,
    )  # fmt: skip
    assert response.status == 200
