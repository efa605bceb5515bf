"""Bad bodies: each is a 400 that names the place, and disturbs nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.errors import RequestError
from fmedge.http.decode import BodyDecoder, check_depth
from fmedge.http.schemas import REFUSED, ChatRequest
from tests.http.conftest import Endpoint, error_of

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"nonsense",
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "tiny", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "tiny", "messages": ' + b"[" * 100_000,
        b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        b"\x00" * 100,
    ],
)
async def test_malformed_bodies(endpoint: Endpoint, body: bytes):
    error = await error_of(await endpoint.post(CHAT, body), 400)
    assert error["type"] == "invalid_request_error"
    assert (await endpoint.chat()).status == 200


@pytest.mark.parametrize(
    ("fields", "param", "part"),
    [
        ({"temperature": -1}, "temperature", ">= 0"),
        ({"temperature": "hot"}, "temperature", "str"),
        ({"top_p": 7}, "top_p", "<= 1"),
        ({"n": 0}, "n", ">= 1"),
        ({"n": 129}, "n", "<= 128"),
        ({"max_tokens": -5}, "max_tokens", ">= -1"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "<= 20"),
        ({"temprature": 1}, "temprature", "`temperature`"),
        ({"messages": []}, "messages", "length"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "`user`"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "required"),
        ({"messages": [{**USER, "contnt": 1}]}, "messages[0].contnt", "`content`"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "messages[0].content[0].text",
            "str",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
            "text only",
        ),
        ({"stop": ["a"] * 17}, "stop", "16"),
        ({"store": True}, "store", "false"),
        ({"modalities": ["audio"]}, "modalities[0]", "audio"),
        ({"verbosity": "high"}, "verbosity", "high"),
        ({"return_hidden_states": True}, "return_hidden_states", "false"),
        ({"separate_reasoning": False}, "separate_reasoning", "true"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        (
            {"response_format": {"type": "json_object"}, "ignore_eos": True},
            "ignore_eos",
            "response_format",
        ),
        (
            {"response_format": {"type": "json_object"}, "regex": "a"},
            "regex",
            "send one",
        ),
        (
            {"regex": "a", "tools": [{"type": "function", "function": {"name": "f"}}]},
            "regex",
            "tool_choice",
        ),
        ({"tool_choice": "auto"}, "tool_choice", "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type", "function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name",
         "regex"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "messages"),
        ({"prompt_cache_options": {"ttl": "30m"}}, "prompt_cache_options.ttl", "no promised"),
        ({"stream_options": {"include_obfuscation": True}, "stream": True},
         "stream_options.include_obfuscation", "false"),
    ],
)  # fmt: skip
async def test_wrong_values_are_named(endpoint: Endpoint, fields, param, part):
    error = await error_of(await endpoint.chat(**fields), 400)
    assert error["param"] == param
    assert part.lower() in error["message"].lower()


@pytest.mark.parametrize(
    "name",
    ["audio", "prediction", "web_search_options", "moderation", "functions", "function_call"],
)
async def test_unsupported_fields_say_why(endpoint: Endpoint, name: str):
    error = await error_of(await endpoint.chat(**{name: {"x": 1}}), 400)
    assert error["param"] == name
    assert error["code"] == "unsupported_parameter"
    assert REFUSED[name] in error["message"]


async def test_tool_of_unknown_name(endpoint: Endpoint):
    tool = {"type": "function", "function": {"name": "get_weather"}}
    choice = {"type": "function", "function": {"name": "get_wether"}}
    error = await error_of(await endpoint.chat(tools=[tool], tool_choice=choice), 400)
    assert error["param"] == "tool_choice"
    assert "get_wether" in error["message"]


async def test_deep_schemas_are_refused_before_they_are_compiled(endpoint: Endpoint):
    schema: dict[str, object] = {}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    for fields in ({"tools": [tool]}, {"guided_json": schema},
                   {"chat_template_kwargs": {"x": schema}}):  # fmt: skip
        error = await error_of(await endpoint.chat(**fields), 400)
        assert "nested" in error["message"]


async def test_prompt_longer_than_the_context_names_both_numbers(endpoint: Endpoint):
    error = await error_of(
        await endpoint.chat(messages=[{"role": "user", "content": "a" * 1000}]), 400
    )
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    assert "512" in error["message"]
    assert any(int(w) > 1000 for w in error["message"].split() if w.isdigit())


async def test_unknown_model_names_what_is_served(endpoint: Endpoint):
    error = await error_of(await endpoint.chat(model="tinny"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "`tiny`" in error["message"]
    assert (await error_of(await endpoint.chat(model="zzz"), 404))["message"]


def test_depth_counts_levels_not_items():
    check_depth([[]] * 10_000, "x")
    with pytest.raises(RequestError):
        check_depth(json.loads("[" * 70 + "]" * 70), "x")


_decoder = BodyDecoder(ChatRequest)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(ChatRequest.__struct_fields__)), _json)
def test_any_value_of_any_field_decodes_or_is_named(name: str, value: object):
    body = {"model": "m", "messages": [USER], name: value}
    error = None
    try:
        _decoder.decode(json.dumps(body).encode())
    except RequestError as caught:
        error = caught
    if error is not None:
        # NaN and infinities make the document as a whole malformed.
        assert error.code == "invalid_json" or (error.param or "").startswith(name)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(body: bytes):
    with pytest.raises(RequestError):
        _decoder.decode(body)
