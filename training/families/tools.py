"""Tools: the one that fits is called with what was said, its result is told, else none is called.

A conversation has one list of tools and one to four questions about it. The tools are written by
hand or made from words; a fifth of the former and a tenth of the words are kept for the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.conversation import Example, Message, Source, assistant, calls, tool_result, user
from training.families.tool_patterns import made_tools
from training.families.tool_shapes import Declared, Tool, ask, can_join, declare, typed
from training.families.tool_tables import HOME_TOOLS
from training.families.tool_tables_more import MORE_TOOLS
from training.families.tool_tables_work import WORK_TOOLS
from training.families.tool_talk import NONE_FITS, answer, sentence
from training.families.tool_values import draw, parts
from training.families.unknown import REFUSAL

TOOLS: tuple[Tool, ...] = HOME_TOOLS + MORE_TOOLS + WORK_TOOLS

_AGAIN = parts(
    "And {a}?|What about {a}?|And for {a}?|The same for {a}, please.|Now {a}, please.|Also for {a}."
    "|How about {a}?|Now do {a}.|And then {a}?|{a}?"
)
_AGAIN_KEPT_BACK = parts("And what about {a}?|Now for {a}, please.|Also {a}, please.")
_AGAIN_IN = parts(
    "And in {a}?|What about {a}?|And {a}?|How about in {a}?|Now {a}.|Also in {a}?|How about {a}?"
)
_AGAIN_IN_KEPT_BACK = parts("And what about in {a}?|And how about {a}?|Now in {a}.")
_COMMON_STEMS = frozenset(("get", "the", "set", "how", "for", "new", "all", "and", "you", "can"))
_ERRORS = parts(
    "not found|timeout|no permission|unknown name|service unavailable|invalid value|no connection|"
    "already exists|quota exceeded|busy"
)
_DONE = (
    {"status": "ok"},
    {"ok": True},
    {"success": True},
    {"status": "success"},
    {"result": "done"},
    {"status": "done"},
    {"done": True},
    {"success": True, "id": 0},
    {"status": "ok", "id": 0},
)


@dataclass(frozen=True)
class _Call:
    declared: Declared
    values: Mapping[int, Any]

    @property
    def as_function(self) -> tuple[str, dict[str, Any]]:
        return self.declared.name, self.declared.arguments(self.values)


def make_tool_call(source: Source) -> Example:
    """One to three questions; the last answer is a call."""
    return _conversation(source, num_turns=source.pick((1, 1, 2, 2, 3)), last="call")


def make_tool_answer(source: Source) -> Example:
    """The last answer tells a result."""
    return _conversation(source, num_turns=source.pick((1, 1, 2, 3)), last="answer")


def make_no_tool(source: Source) -> Example:
    """The last question asks for what no given tool does."""
    return _conversation(source, num_turns=source.pick((1, 1, 2, 3)), last="none")


def make_missing_argument(source: Source) -> Example:
    """The last question does not say what its tool needs."""
    return _conversation(source, num_turns=source.pick((1, 1, 2)), last="missing")


def make_parallel_calls(source: Source) -> Example:
    """One message that asks for two calls."""
    return _conversation(source, num_turns=source.pick((1, 1, 2)), last="parallel")


def wrap(example: Example, source: Source) -> Example:
    """The same conversation with tools beside it that do not fit: nothing is called.

    What the demonstration model would refuse is then what no tool can do.
    """
    asked = " ".join(
        message["content"] for message in example.messages if message["role"] == "user"
    )
    is_refused = example.messages[-1] == assistant(REFUSAL)
    messages = tuple(
        assistant(NONE_FITS) if message == assistant(REFUSAL) else message
        for message in example.messages
    )
    unrelated = _unrelated_tools(source, asked, may_be_known=not is_refused)
    if not unrelated:
        return example
    declared = _declared(unrelated, source)
    return replace(
        example,
        family=f"{example.family}_beside_tools",
        messages=messages,
        key="None" if is_refused else example.key,
        tools=tuple(one.spec for one in declared),
    )


def _conversation(source: Source, *, num_turns: int, last: str) -> Example:
    tools, spare = _tools(source)
    while not _can_end(tools, last):
        tools, spare = _tools(source)
    declared = _declared(tools, source)
    messages: list[Message] = []
    key = ""
    previous: _Call | None = None
    for turn in range(num_turns):
        is_last = turn == num_turns - 1
        kind = last if is_last else source.pick(("answer",) * 7 + ("parallel", "none"))
        if kind == "none":
            key = _add_none(messages, spare, source)
            previous = None
            continue
        may_repeat = kind in ("call", "answer") and source.chance(0.5)
        if may_repeat and previous and _can_repeat(previous):
            made = _repeat(messages, previous, source)
        elif kind == "parallel":
            made = _add_parallel(messages, declared, source)
        else:
            bare = [one for one in declared if one.tool.bare] if kind == "missing" else []
            one = source.pick(bare or declared)
            if one.tool.bare and (kind == "missing" or source.chance(0.1)):
                needed = _add_missing(messages, one, source)
                previous = None
                if is_last and kind == "missing":
                    key = needed
                    break
                words, value = draw(one.tool.params[0].kind, source)
                text, values = typed("{a}", {"a": words}, source), [{0: value}]
            else:
                text, values, _ = ask(one.tool, source)
                if user(text) in messages:
                    one = source.pick(declared)
                    text, values, _ = ask(one.tool, source)
            messages.append(user(text))
            made = [_Call(one, values[0])]
        messages.append(calls(*(call.as_function for call in made)))
        previous = made[0] if len(made) == 1 else None
        key = ""
        if not is_last or kind == "answer":
            key = _add_results(messages, made, source)
    return Example(
        family=f"tools_{last}",
        messages=tuple(messages),
        tools=tuple(one.spec for one in declared),
        key=key,
    )


def _can_end(tools: list[Tool], last: str) -> bool:
    if last == "missing":
        return any(tool.bare for tool in tools)
    return last != "parallel" or len(tools) > 1 or can_join(tools[0])


def _tools(source: Source) -> tuple[list[Tool], Tool]:
    """The conversation's tools, and one that it lacks, of which nothing there is a stand-in."""
    num = source.pick((1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5))
    if source.chance(0.5):
        *tools, spare = made_tools(source, num + 1)
        return tools, spare
    # The test's tools are kept back, or known ones asked for in kept-back words.
    kept_back = source.is_test and source.chance(0.5)
    pool = [tool for tool in TOOLS if tool.is_kept_back == kept_back]
    spare = source.pick([tool for tool in pool if not tool.domain.endswith("!")])
    return source.sample([tool for tool in pool if tool.domain != spare.domain], num), spare


def _declared(tools: list[Tool], source: Source) -> list[Declared]:
    declared: list[Declared] = []
    names: set[str] = set()
    for tool in tools:
        one = declare(tool, source)
        while one.name in names:
            one = declare(tool, source)
        names.add(one.name)
        declared.append(one)
    return declared


def _unrelated_tools(source: Source, asked: str, *, may_be_known: bool) -> list[Tool]:
    """Tools that share no word with what was asked."""
    num = source.pick((1, 1, 2, 2, 3, 4))
    pool = made_tools(source, num + 3)
    if may_be_known and source.chance(0.6):
        pool = [
            tool
            for tool in TOOLS
            if not tool.domain.endswith("!") and tool.is_kept_back == source.is_test
        ]
        source.rng.shuffle(pool)
    known = _stems(asked)
    return [tool for tool in pool if known.isdisjoint(_stems(tool.names + tool.domain))][:num]


def _stems(text: str) -> set[str]:
    """The first letters of every word that means something."""
    return {word[:5] for word in re.findall(r"[a-z]{3,}", text.lower())} - _COMMON_STEMS


def _add_none(messages: list[Message], spare: Tool, source: Source) -> str:
    text, _, _ = ask(spare, source)
    messages += [user(text), assistant(NONE_FITS)]
    return "None"


def _add_missing(messages: list[Message], declared: Declared, source: Source) -> str:
    """A question that does not say what a call needs, and the question back."""
    tool = declared.tool
    trained, kept_back = parts(tool.bare), parts(tool.kept_bare)
    text = typed(source.phrase(trained, kept_back), {}, source)
    name = next(name for name, place in declared.places if place == 0)
    needed = re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", name).lower()
    messages += [user(text), assistant(f"Please tell me the {needed}.")]
    return needed


def _can_repeat(call: _Call) -> bool:
    return set(call.values) == {0} and can_join(call.declared.tool)


def _repeat(messages: list[Message], previous: _Call, source: Source) -> list[_Call]:
    """A question that only names the next one: "And in Rome?"."""
    kind = previous.declared.tool.params[0].kind
    words, value = draw(kind, source)
    if kind == "city":
        template = source.phrase(_AGAIN_IN, _AGAIN_IN_KEPT_BACK)
    else:
        template = source.phrase(_AGAIN, _AGAIN_KEPT_BACK)
    messages.append(user(typed(template, {"a": words}, source)))
    return [replace(previous, values={0: value})]


def _add_parallel(messages: list[Message], declared: list[Declared], source: Source) -> list[_Call]:
    joinable = [one for one in declared if can_join(one.tool)]
    if len(declared) == 1 or (joinable and source.chance(0.6)):
        one = source.pick(joinable or declared)
        text, values, _ = ask(one.tool, source, joined=bool(joinable))
        messages.append(user(text))
        return [_Call(one, value) for value in values]
    made: list[_Call] = []
    texts: list[str] = []
    for one in source.sample(declared, 2):
        text, values, _ = ask(one.tool, source)
        texts.append(text)
        made.append(_Call(one, values[0]))
    first = texts[0] if texts[0][-1] in "?." else f"{texts[0]}."
    link = source.pick((" ", " ", " And: ", " Also: ", " Then: "))
    messages.append(user(first + link + texts[1]))
    return made


def _add_results(messages: list[Message], made: list[_Call], source: Source) -> str:
    """The tools' results and the answer that tells them; returns what that must hold."""
    results = [_result(call, source) for call in made]
    messages += [tool_result(result) for result in results]
    subjects = [str(next(iter(call.values.values()), "")) for call in made]
    messages.append(assistant(answer(results, subjects)))
    told = sentence(results[0])
    return told.rstrip(".").split(" is ")[-1].split(" and the ")[0].split(": ")[-1]


def _result(call: _Call, source: Source) -> str:
    if source.chance(0.06):
        return json.dumps({"error": source.pick(_ERRORS)})
    spec = call.declared.tool.result
    if not spec:
        content: Any = {
            key: source.rng.randint(10, 9999) if key == "id" else value
            for key, value in source.pick(_DONE).items()
        }
        if source.chance(0.15):
            return source.pick(("done", "OK", "success", "true", "ok"))
        return json.dumps(content)
    content = {}
    for field in spec.split():
        name, _, kind = field.partition(":")
        value = draw(kind, source)[1]
        arguments = call.values
        content[name] = arguments[0] if name in _subject_names(call) else value
    if len(content) == 1 and source.chance(0.25):
        (value,) = content.values()
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if source.chance(0.2):
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(content, ensure_ascii=False)


def _subject_names(call: _Call) -> tuple[str, ...]:
    """The fields of a result that repeat what was asked about."""
    tool = call.declared.tool
    return tuple(tool.params[0].names.split("|")) if tool.params and 0 in call.values else ()


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "tools_call": (make_tool_call, 5.0),
    "tools_answer": (make_tool_answer, 2.0),
    "tools_none": (make_no_tool, 3.0),
    "tools_parallel": (make_parallel_calls, 1.0),
    "tools_missing": (make_missing_argument, 0.5),
}
