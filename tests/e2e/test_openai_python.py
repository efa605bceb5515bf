"""The real `openai` client, unchanged, over every endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Oslo"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "green"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["colour", "size"],
    "additionalProperties": False,
}


def ask(client: openai.OpenAI, **kwargs):
    return client.chat.completions.create(
        **{"model": "tiny", "messages": MESSAGES, "max_tokens": 12, "seed": 7, **kwargs}
    )


def test_chat_answers_with_usage_and_timings(client: openai.OpenAI):
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.completion_tokens <= 12
    total = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.total_tokens == total
    assert answer.model_extra["timings"]["predicted_n"] == answer.usage.completion_tokens


def test_stream_equals_the_answer_in_one_piece(client: openai.OpenAI):
    whole = ask(client, temperature=0).choices[0].message.content
    chunks = list(ask(client, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    parts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(parts) == whole
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens <= 12


def test_same_seed_same_answer_and_other_seed_another(client: openai.OpenAI):
    texts = [ask(client, seed=s).choices[0].message.content for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_second_request_reads_the_cached_prefix(client: openai.OpenAI):
    messages = [{"role": "user", "content": "A long story about a lighthouse. " * 8}]
    ask(client, messages=messages)
    again = ask(client, messages=messages)
    assert again.usage.prompt_tokens_details.cached_tokens > again.usage.prompt_tokens * 0.9


def test_n_choices_differ_and_share_the_prompt(client: openai.OpenAI):
    answer = ask(client, n=3, temperature=1.0)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1


def test_logprobs(client: openai.OpenAI):
    content = ask(client, logprobs=True, top_logprobs=3, max_tokens=3).choices[0].logprobs.content
    assert len(content) == 3
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert math.fsum(math.exp(t.logprob) for t in entry.top_logprobs) <= 1.0001
        assert bytes(entry.bytes).decode(errors="replace") == entry.token or entry.token


def test_logit_bias_decides_the_token(client: openai.OpenAI):
    tokens = client.post("/../tokenize", body={"content": " sea"}, cast_to=object)["tokens"]
    answer = ask(client, logit_bias={str(tokens[0]): 100}, max_tokens=4, logprobs=True)
    assert len({entry.token for entry in answer.choices[0].logprobs.content}) == 1


def test_stop_string_ends_the_text_before_it(client: openai.OpenAI):
    text = ask(client, temperature=0, max_tokens=40).choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    cut = ask(client, temperature=0, max_tokens=40, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_forced_tool_call_has_valid_arguments(client: openai.OpenAI, choice):
    answer = ask(
        client, tools=[TOOL], tool_choice=choice, max_tokens=200, parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.id
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Paris", "Oslo")
    assert 1 <= arguments["days"] <= 9


def test_streamed_tool_call_argument_deltas(client: openai.OpenAI):
    stream = ask(
        client,
        tools=[TOOL],
        tool_choice="required",
        max_tokens=200,
        parallel_tool_calls=False,
        stream=True,
    )
    name, arguments, finish = "", "", None
    for chunk in stream:
        finish = chunk.choices[0].finish_reason or finish
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.index == 0
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert (name, finish) == ("get_weather", "tool_calls")
    assert json.loads(arguments)["city"] in ("Paris", "Oslo")


def test_tool_choice_none_never_calls(client: openai.OpenAI):
    message = ask(client, tools=[TOOL], tool_choice="none").choices[0].message
    assert not message.tool_calls


def test_json_schema_is_enforced(client: openai.OpenAI):
    schema = {"name": "thing", "strict": True, "schema": SCHEMA}
    answer = ask(
        client,
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=900,
        temperature=1.2,
    )
    thing = json.loads(answer.choices[0].message.content)
    assert thing["colour"] in ("red", "green")
    assert 0 <= thing["size"] <= 99


def test_regex_extension(client: openai.OpenAI):
    answer = ask(client, extra_body={"regex": "[0-9]{4}-[0-9]{2}"}, max_tokens=20)
    year, month = answer.choices[0].message.content.split("-")
    assert (len(year), len(month)) == (4, 2)


def test_completions_text_tokens_echo_and_batches(client: openai.OpenAI):
    one = client.completions.create(model="tiny", prompt="The sea", max_tokens=5, echo=True)
    assert one.choices[0].text.startswith("The sea")
    tokens = client.post("/../tokenize", body={"content": "The sea"}, cast_to=object)["tokens"]
    two = client.completions.create(
        model="tiny", prompt=[tokens, tokens], max_tokens=5, temperature=0
    )
    assert two.choices[0].text == two.choices[1].text
    streamed = client.completions.create(
        model="tiny", prompt=tokens, max_tokens=5, temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in streamed if c.choices) == two.choices[0].text


def test_completion_logprobs(client: openai.OpenAI):
    answer = client.completions.create(model="tiny", prompt="The sea", max_tokens=4, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 4


def test_embeddings_float_base64_and_dimensions(client: openai.OpenAI):
    both = client.embeddings.create(
        model="tiny", input=["sea", "mountain"], encoding_format="float"
    )
    first, second = (item.embedding for item in both.data)
    assert math.isclose(math.fsum(x * x for x in first), 1.0, rel_tol=1e-3)
    assert first != second
    coded = client.embeddings.create(model="tiny", input="sea", encoding_format="base64")
    raw = base64.b64decode(coded.data[0].embedding)
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(first, abs=1e-3)
    short = client.embeddings.create(model="tiny", input="sea", dimensions=8)
    assert len(short.data[0].embedding) == 8


def test_models(client: openai.OpenAI):
    assert "tiny" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


def test_prompt_longer_than_the_context_is_refused_with_both_numbers(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "far too long " * 4000}])
    assert caught.value.code == "context_length_exceeded"
    numbers = [int(word) for word in caught.value.message.split() if word.isdigit()]
    assert len(numbers) >= 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("top_p", 7),
        ("n", 0),
        ("max_tokens", -5),
        ("audio", {"voice": "x", "format": "wav"}),
        ("top_logprobs", 3),
        ("no_such_field", 1),
    ],
)
def test_impossible_parameters_are_named(client: openai.OpenAI, field, value):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body={field: value})
    assert field in caught.value.message


def test_unknown_model(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError):
        ask(client, model="absent")


async def test_many_streams_at_once_are_each_their_own(async_client: openai.AsyncOpenAI):
    async def text(index: int) -> str:
        stream = await async_client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": f"Story number {index % 4}"}],
            max_tokens=16,
            temperature=0,
            stream=True,
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    texts = await asyncio.wait_for(asyncio.gather(*(text(i) for i in range(16))), 60)
    assert all(texts[i] == texts[i % 4] for i in range(16))
    assert len(set(texts)) == 4
