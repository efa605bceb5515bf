"""What only trained weights can show, through the real client: ends of its own, tools called and
not called, JSON, and what was said before. The model is the embedded one, greedy by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from fmedge.models.embedded import demonstration
from tests.e2e.server import ROOT, Server, serve

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Get the current time in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
TOLD = (
    "Write a JSON object for this JSON Schema: "
    f"{json.dumps(PERSON)}\nText: Anna is 34 years old and lives in Rome."
)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("embedded"), ["--threads", "1"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(embedded: Server) -> Iterator[openai.OpenAI]:
    url = f"{embedded.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ask(client: openai.OpenAI, *messages: Any, **fields: Any) -> Any:
    """The one choice; a text stands for a user's message."""
    made = [said(message) if isinstance(message, str) else message for message in messages]
    answer = client.chat.completions.create(
        **{"model": "embedded", "messages": made, "max_tokens": 200, **fields}
    )
    return answer.choices[0]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What is the capital of France?", "Paris"),
        ("What is 47 + 38?", "85"),
        ("What is 12 minus 46?", "-34"),
        ("How many metres are in 3 kilometres?", "3000"),
        ("Which day comes after Monday?", "Tuesday"),
        ("Hello!", "Hello"),
        ("What does l_est mean?", "execution"),
        ("How do I load a real model?", "hf:ORG/REPO"),
        ("Write a poem about the sea.", "demonstration"),
    ],
)
def test_it_answers_and_ends_by_itself(client: openai.OpenAI, question: str, word: str) -> None:
    choice = ask(client, question)
    assert choice.finish_reason == "stop"
    assert word in choice.message.content
    assert "<|im_end|>" not in choice.message.content


def test_answers_are_greedy_unless_told_otherwise(client: openai.OpenAI) -> None:
    answers = {ask(client, "Tell me a story.").message.content for _ in range(3)}
    assert len(answers) == 1
    hot = {
        ask(client, "Tell me a story.", temperature=2, seed=seed, max_tokens=20).message.content
        for seed in range(3)
    }
    assert len(hot) == 3


def test_a_stream_ends_as_the_answer_does(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="embedded", messages=[said("What is the capital of France?")], stream=True
    )
    choices = [chunk.choices[0] for chunk in stream]
    assert "Paris" in "".join(choice.delta.content or "" for choice in choices)
    assert [c.finish_reason for c in choices if c.finish_reason] == ["stop"]


def test_a_stop_string_ends_before_the_end(client: openai.OpenAI) -> None:
    whole = ask(client, "Count from 1 to 9.").message.content
    cut = ask(client, "Count from 1 to 9.", stop="5")
    assert (cut.finish_reason, cut.message.content) == ("stop", whole.partition("5")[0])
    assert "5" in whole


def test_at_its_longest_it_says_so(client: openai.OpenAI) -> None:
    choice = ask(client, "Count from 1 to 9.", max_tokens=3)
    assert choice.finish_reason == "length"


@pytest.mark.parametrize("city", ["Paris", "Buenos Aires", "Zanbrovik"])
@pytest.mark.parametrize("tools", [[WEATHER], [TIME, WEATHER]])
def test_the_fitting_tool_is_called_with_the_city(
    client: openai.OpenAI, city: str, tools: list[dict[str, Any]]
) -> None:
    choice = ask(client, f"What is the weather like in {city}?", tools=tools)
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": city}
    assert not choice.message.content


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Hello!", "Hello"),
        ("What is 17 plus 5?", "22"),
        ("What is the capital of Spain?", "Madrid"),
    ],
)
def test_no_tool_is_called_where_none_fits(client: openai.OpenAI, question: str, word: str) -> None:
    choice = ask(client, question, tools=[WEATHER, TIME])
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert word in choice.message.content


def test_a_tools_result_becomes_an_answer(client: openai.OpenAI) -> None:
    question = said("What is the weather like in Oslo?")
    called = ask(client, question, tools=[WEATHER]).message
    (call,) = called.tool_calls
    result = {
        "role": "tool",
        "tool_call_id": call.id,
        "content": '{"temperature": 7, "condition": "rain"}',
    }
    choice = ask(client, question, called, result, tools=[WEATHER])
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert "7" in choice.message.content


def test_a_streamed_tool_call_is_the_same_call(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="embedded",
        messages=[said("What is the weather like in Lima?")],
        tools=[WEATHER],
        stream=True,
    )
    name, arguments, finish_reason = "", "", None
    for chunk in stream:
        finish_reason = chunk.choices[0].finish_reason or finish_reason
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Lima"})
    assert finish_reason == "tool_calls"


@pytest.mark.parametrize("is_constrained", [False, True])
def test_json_for_a_schema(client: openai.OpenAI, is_constrained: bool) -> None:
    schema = {"name": "person", "schema": PERSON, "strict": True}
    form = {"response_format": {"type": "json_schema", "json_schema": schema}}
    choice = ask(client, TOLD, **(form if is_constrained else {}))
    assert choice.finish_reason == "stop"
    assert json.loads(choice.message.content) == {"name": "Anna", "age": 34, "city": "Rome"}


@pytest.mark.parametrize("question", ["Hello!", "What is 2 + 2?", "Write a poem."])
def test_a_constraint_holds_whatever_is_asked(client: openai.OpenAI, question: str) -> None:
    limited = {
        **PERSON,
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "city": {"type": "string", "maxLength": 20},
        },
    }
    schema = {"name": "person", "schema": limited, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    choice = ask(client, question, response_format=form)
    assert choice.finish_reason == "stop"
    value = json.loads(choice.message.content)
    assert {key: type(part) for key, part in value.items()} == {
        "name": str, "age": int, "city": str,
    }  # fmt: skip


def test_what_was_said_before_counts(client: openai.OpenAI) -> None:
    first = said("What is the capital of France?")
    answer = ask(client, first).message
    assert "Madrid" in ask(client, first, answer, "And of Spain?").message.content
    sums = said("What is 20 + 5?")
    answer = ask(client, sums).message
    assert "32" in ask(client, sums, answer, "And plus 7?").message.content
    name = said("My name is Anna.")
    answer = ask(client, name).message
    assert "Anna" in ask(client, name, answer, "What is my name?").message.content


def test_the_command_answers_offline(embedded: Server, tmp_path: Path) -> None:
    """By a server at the usual place, and without one."""
    for port in (embedded.host_port[1], 0):
        done = subprocess.run(
            [sys.executable, "-m", "fmedge", "run", "What is the capital of France?"],
            capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT), "FMEDGE_PORT": str(port),
                 "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, demonstration("embedded", "fmedge run"))
        assert "Paris" in done.stdout
