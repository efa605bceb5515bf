import json
from collections.abc import Callable
from typing import Any

import pytest

from training.conversation import Example, Source, assistant, user
from training.families import tools
from training.families.tool_patterns import made_tools
from training.families.tool_talk import NONE_FITS, answer, sentence
from training.families.unknown import REFUSAL

SEEDS = range(150)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
}


def _examples(*, is_test: bool) -> list[Example]:
    return [
        make(Source(f"{name} {seed}", is_test=is_test))
        for name, (make, _) in tools.FAMILIES.items()
        for seed in SEEDS
    ]


TRAINED = _examples(is_test=False)
TESTED = _examples(is_test=True)


def _asked_calls(example: Example) -> list[tuple[str, dict[str, Any]]]:
    """(the question before it, the function called) for every call."""
    asked: list[tuple[str, dict[str, Any]]] = []
    question = ""
    for message in example.messages:
        if message["role"] == "user":
            question = message["content"]
        asked += [(question, call["function"]) for call in message.get("tool_calls", ())]
    return asked


@pytest.mark.parametrize("example", [TRAINED, TESTED], ids=["trained", "tested"])
def test_a_user_is_answered_and_a_call_has_its_results(example: list[Example]) -> None:
    for one in example:
        roles = [message["role"] for message in one.messages]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        open_calls = 0
        for before, message in zip(one.messages, one.messages[1:], strict=False):
            if before["role"] == "assistant":
                open_calls = len(before.get("tool_calls", ()))
            if message["role"] == "tool":
                open_calls -= 1
            assert open_calls >= 0
            if before["role"] in ("user", "tool") and message["role"] != "tool":
                assert message["role"] == "assistant"
                assert before["role"] == "user" or open_calls == 0


@pytest.mark.parametrize("examples", [TRAINED, TESTED], ids=["trained", "tested"])
def test_each_call_fits_its_tool_and_only_says_what_was_asked(examples: list[Example]) -> None:
    for example in examples:
        functions = {tool["function"]["name"]: tool["function"] for tool in example.tools}
        assert len(functions) == len(example.tools)
        for question, function in _asked_calls(example):
            parameters = functions[function["name"]].get("parameters", {})
            properties = parameters.get("properties", {})
            given = function["arguments"]
            assert set(parameters.get("required", ())) <= set(given) <= set(properties)
            assert list(given) == [name for name in properties if name in given]
            for name, value in given.items():
                assert isinstance(value, _TYPES[properties[name]["type"]])
                assert value in properties[name].get("enum", [value])
                if not isinstance(value, bool):
                    for part in value if isinstance(value, list) else [value]:
                        assert str(part) in question


@pytest.mark.parametrize("examples", [TRAINED, TESTED], ids=["trained", "tested"])
def test_the_last_answer_holds_its_key_and_what_the_tool_said(examples: list[Example]) -> None:
    num_told = 0
    for example in examples:
        last = example.messages[-1]
        if example.key:
            assert example.key.lower() in last["content"].lower()
            assert "tool_calls" not in last
        else:
            assert last["tool_calls"]
        before = example.messages[-2]
        if before["role"] == "tool" and example.messages[-3]["role"] == "assistant":
            num_told += 1
            assert last["content"] == sentence(before["content"])
    assert num_told > 100


def test_kept_back_tools_and_words_are_never_trained() -> None:
    kept_back = [tool for tool in tools.TOOLS if tool.is_kept_back]
    trained = [tool for tool in tools.TOOLS if not tool.is_kept_back]
    assert len(kept_back) >= 8
    assert len(trained) >= 40
    names = {tool["function"]["name"] for example in TRAINED for tool in example.tools}
    for tool in kept_back:
        assert names.isdisjoint(tool.names.split("|"))
    for tool in trained:
        asks = {ask.lower().rstrip("?.") for ask in tool.asks.split("|")}
        assert asks.isdisjoint(ask.lower().rstrip("?.") for ask in tool.kept_asks.split("|"))


def test_made_tools_are_others_in_the_test() -> None:
    def domains(*, is_test: bool) -> set[str]:
        sources = (Source(seed, is_test=is_test) for seed in range(200))
        return {tool.domain for source in sources for tool in made_tools(source, 4)}

    assert len(domains(is_test=False)) > 300
    assert domains(is_test=False).isdisjoint(domains(is_test=True))


def test_the_same_seed_makes_the_same_example() -> None:
    for make, _ in tools.FAMILIES.values():
        assert make(Source("seed")) == make(Source("seed"))


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            '{"temperature": 18, "condition": "sunny"}',
            "The temperature is 18 and the condition is sunny.",
        ),
        ('{"phone_number": "0401"}', "The phone number is 0401."),
        ('{"success": true, "id": 12}', "Done. The id is 12."),
        ('{"status":"ok"}', "Done."),
        ('{"ok": false}', "That did not work."),
        ('{"error": "not found"}', "That did not work: not found."),
        ('["a", "b", "c"]', "The results are a, b and c."),
        ('{"tasks": []}', "There are no tasks."),
        ("true", "Done."),
        ("42", "The result is 42."),
        ('{"minutes": 7, "distance_km": 12}', "The minutes are 7 and the distance is 12 km."),
        ("sunny, 18 degrees", "The result is sunny, 18 degrees."),
    ],
)
def test_a_result_is_told_in_one_way(result: str, told: str) -> None:
    assert sentence(result) == told


def test_several_results_are_told_with_what_they_are_about() -> None:
    told = answer(['{"time": "10:00"}', '{"time": "12:30"}'], ["Rome", "Oslo"])
    assert told == "Rome: the time is 10:00. Oslo: the time is 12:30."
    assert answer(["done", "ok"], ["a", "b"]) == "Done."


def test_two_things_are_asked_for_in_one_message() -> None:
    lasts = [example.messages[-1] for example in TRAINED if example.family == "tools_parallel"]
    assert all(last["tool_calls"] for last in lasts)
    assert sum(len(last["tool_calls"]) > 1 for last in lasts) > 0.95 * len(lasts)


def test_what_no_tool_does_is_declined_in_one_sentence() -> None:
    make: Callable[[Source], Example] = tools.make_no_tool
    for seed in SEEDS:
        example = make(Source(seed))
        assert example.messages[-1] == assistant(NONE_FITS)
        assert example.key == "None"


def test_what_a_call_lacks_is_asked_for_and_the_reply_makes_the_call() -> None:
    replies = 0
    for example in TRAINED + TESTED:
        for place, message in enumerate(example.messages):
            is_question = message["content"].startswith("Please tell me the ")
            if message["role"] != "assistant" or not is_question:
                continue
            if message is example.messages[-1]:
                assert example.family == "tools_missing"
                assert example.key in message["content"]
            else:
                replies += 1
                ((said, function),) = _asked_calls(
                    Example(family="", messages=example.messages[place + 1 : place + 3])
                )
                assert str(next(iter(function["arguments"].values()))).lower() in said.lower()
    assert replies > 10
    assert all(example.key for example in TRAINED if example.family == "tools_missing")


def test_a_refusal_becomes_that_no_tool_fits() -> None:
    refused = Example(
        family="unknown", messages=(user("Sing."), assistant(REFUSAL)), key="demonstration"
    )
    wrapped = tools.wrap(refused, Source("wrap"))
    assert wrapped.messages[-1] == assistant(NONE_FITS)
    assert wrapped.key == "None"


def test_other_families_keep_their_answers_beside_tools() -> None:
    example = Example(family="sums", messages=(user("2+2"), assistant("4")), key="4")
    for is_test in (False, True):
        for seed in range(100):
            wrapped = tools.wrap(example, Source(seed, is_test=is_test))
            assert wrapped.messages == example.messages
            assert wrapped.key == "4"
            names = json.dumps(wrapped.tools)
            assert 1 <= len(wrapped.tools) <= 4
            assert "expression" not in names
