"""`python -m training.evaluate`: how a model does what it was trained for, asked through the API.

Examples are those kept back from training; sampling is greedy; what is measured stands in the
model card as a table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmedge.cli.api import Api
from fmedge.cli.private_server import PrivateServer
from training import tokenizer as vocabulary
from training.conversation import Example
from training.judge import Answer, is_right, is_valid, plain_schema, read_call
from training.mix import SHARES, Mix, families, members_of

MAX_TOKENS = 200
SLOTS = 8
UNFITTING = "no tool fits: right answer"
_NAME = "candidate"


@dataclass(frozen=True, kw_only=True)
class Result:
    family: str
    way: str
    is_right: bool
    is_ended: bool
    kind: str
    example: Example
    answer: Answer


def evaluate(api: Api, num: int, wanted: list[str], show: int) -> list[Result]:
    """num kept-back examples of each family, asked in each way that makes sense."""
    mix = Mix()
    known = families()
    asked = [name for name in known if not wanted or name in wanted or _file(name) in wanted]
    results: list[Result] = []
    with ThreadPoolExecutor(SLOTS) as pool:
        for number, family in enumerate(asked, 1):
            examples = [mix.test(family, f"evaluation {seed}") for seed in range(num)]
            jobs = [(example, way) for example in examples for way in ways(example)]
            found = list(pool.map(lambda job, family=family: _ask(api, family, *job), jobs))
            share = _share([result.is_right for result in found])
            print(f"[{number}/{len(asked)}] {family}: {share}", file=sys.stderr, flush=True)
            for result in [result for result in found if not result.is_right][:show]:
                _print_wrong(result)
            results += found
    return results


def ways(example: Example) -> Iterator[str]:
    """How an example is asked: freely; where the API could constrain it, also constrained."""
    yield "free"
    if example.tools:
        yield "api"  # the calls' arguments are held to their schemas
    elif example.schema is not None:
        yield "constrained"


def _ask(api: Api, family: str, example: Example, way: str) -> Result:
    is_raw = bool(example.tools) and way == "free"
    answer = (_completion if is_raw else _chat)(api, example, way)
    return Result(
        family=family,
        way=way,
        is_right=is_right(example, answer),
        is_ended=answer.is_ended,
        kind=kind(family, example),
        example=example,
        answer=answer,
    )


def _completion(api: Api, example: Example, _: str) -> Answer:
    """The model's own words: nothing reads calls, nothing constrains them."""
    prompt = vocabulary.template().render(
        messages=example.messages[:-1], tools=list(example.tools), add_generation_prompt=True
    )
    body = {"model": _NAME, "prompt": prompt, "temperature": 0, "max_tokens": MAX_TOKENS}
    choice = api.post("/v1/completions", body)["choices"][0]
    return Answer.read(choice["text"], is_ended=choice["finish_reason"] == "stop")


def _chat(api: Api, example: Example, way: str) -> Answer:
    body: dict[str, Any] = {
        "model": _NAME,
        "messages": [_plain(message) for message in example.messages[:-1]],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    if example.tools:
        body["tools"] = list(example.tools)
    if way == "constrained":
        schema = {"name": "answer", "schema": plain_schema(example), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    choice = api.post("/v1/chat/completions", body)["choices"][0]
    calls = choice["message"].get("tool_calls") or ()
    return Answer(
        text=choice["message"].get("content") or "",
        calls=tuple(
            read_call(call["function"]["name"], call["function"]["arguments"]) for call in calls
        ),
        is_ended=choice["finish_reason"] in ("stop", "tool_calls"),
    )


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message as clients send it: arguments are text, and calls have ids."""
    if message["role"] == "tool":
        return {**message, "tool_call_id": "call_0"}
    if not message.get("tool_calls"):
        return message
    calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for number, call in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}


def kind(family: str, example: Example) -> str:
    """What the example tests, in the words of the model card."""
    if example.messages[-1].get("tool_calls"):
        return "right tool, right arguments"
    if example.messages[-2]["role"] == "tool":
        return "answer from a tool's result"
    if example.tools:
        return UNFITTING
    if example.schema is not None:
        return "JSON has the right values"
    if family in ("plus", "minus"):
        return "plus and minus"
    return _file(family)


def _file(family: str) -> str:
    """The file of training/families that makes a family."""
    return next(file for file in SHARES if family in members_of(file))


def table(results: list[Result]) -> str:
    """Markdown: right answers by kind and way, and how many answers ended by themselves."""
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for result in results:
        groups[result.kind, result.way].append(result.is_right)
        if result.example.schema is not None:
            valid = is_valid(result.example, result.answer)
            groups["JSON is valid for its schema", result.way].append(valid)
        if result.kind == UNFITTING:
            groups["no tool fits: none called", result.way].append(not result.answer.calls)
    lines = ["| task | asked | right | of |", "| --- | --- | --- | --- |"]
    for (task, way), right in sorted(groups.items()):
        lines.append(f"| {task} | {way} | {_share(right)} | {len(right)} |")
    ended = [result.is_ended for result in results]
    lines.append(f"| ended by itself within {MAX_TOKENS} tokens | all | {_share(ended)} | "
                 f"{len(ended)} |")  # fmt: skip
    return "\n".join(lines)


def _share(right: list[bool]) -> str:
    return f"{100 * sum(right) / max(1, len(right)):.1f} %"


def _print_wrong(result: Result) -> None:
    question = result.example.messages[-2].get("content")
    last = result.example.messages[-1]
    print(
        f"  {result.way}: {question!r}\n    wanted {result.example.key or last}\n"
        f"    got    {result.answer.text!r} {list(result.answer.calls) or ''}",
        file=sys.stderr,
    )


def run(model: Path, num: int, wanted: list[str], show: int = 0) -> list[Result]:
    """The results of a model served for this alone."""
    args = ["--model", str(model), "--alias", _NAME, "--slots", str(SLOTS)]
    with PrivateServer(args) as server:
        return evaluate(Api(server.url), num, wanted, show)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", type=Path, metavar="FILE.gguf")
    parser.add_argument("--num", type=int, default=40, help="examples of each family [40]")
    parser.add_argument("--family", action="append", default=[], help="these only (or files)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="wrong answers to show")
    options = parser.parse_args()
    print(table(run(options.model, options.num, options.family, options.show)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
