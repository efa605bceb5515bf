"""`python -m training.evaluate`: how a model does what it was trained for, asked through the API.

Examples are those kept back from training; sampling is greedy; what is measured stands in the
model card as a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from fmedge.cli.private_server import PrivateServer
from training import tokenizer as vocabulary
from training.conversation import Example
from training.judge import Answer, is_right
from training.mix import SHARES, Mix, families, members_of

MAX_TOKENS = 200
SLOTS = 8
TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Result:
    family: str
    way: str
    is_right: bool
    is_ended: bool
    kind: str
    example: Example
    answer: Answer


async def evaluate(url: str, num: int, wanted: list[str], show: int) -> list[Result]:
    """num kept-back examples of each family, asked in each way that makes sense."""
    mix = Mix()
    known = families()
    asked = [name for name in known if not wanted or name in wanted or _file(name) in wanted]
    transport = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:"))
    limit = asyncio.Semaphore(SLOTS)
    results: list[Result] = []
    async with (
        httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S) as http,
        openai.AsyncOpenAI(base_url="http://fmedge/v1", api_key="none", http_client=http,
                           max_retries=0) as client,
    ):  # fmt: skip
        model = (await client.models.list()).data[0].id
        for number, family in enumerate(asked, 1):
            examples = [mix.test(family, f"evaluation {seed}") for seed in range(num)]
            jobs = [
                _ask(client, model, family, example, way, limit)
                for example in examples
                for way in ways(example)
            ]
            results += await asyncio.gather(*jobs)
            share = _share([r.is_right for r in results if r.family == family])
            print(f"[{number}/{len(asked)}] {family}: {share}", file=sys.stderr, flush=True)
            wrong = [r for r in results if r.family == family and not r.is_right]
            for result in wrong[:show]:
                _print_wrong(result)
    return results


def ways(example: Example) -> Iterator[str]:
    """How an example is asked: freely; where the API could constrain it, also constrained."""
    yield "free"
    if example.tools:
        yield "api"  # the calls' arguments are held to their schemas
    if example.schema is not None:
        yield "constrained"


async def _ask(
    client: openai.AsyncOpenAI,
    model: str,
    family: str,
    example: Example,
    way: str,
    limit: asyncio.Semaphore,
) -> Result:
    messages = list(example.messages[:-1])
    async with limit:
        if example.tools and way == "free":
            prompt = vocabulary.template().render(
                messages=messages, tools=list(example.tools), add_generation_prompt=True
            )
            completion = await client.completions.create(
                model=model, prompt=prompt, temperature=0, max_tokens=MAX_TOKENS
            )
            choice = completion.choices[0]
            answer = Answer.read(choice.text, is_ended=choice.finish_reason == "stop")
        else:
            answer = await _chat(client, model, example, messages, way)
    return Result(
        family=family,
        way=way,
        is_right=is_right(example, answer),
        is_ended=answer.is_ended,
        kind=kind(example),
        example=example,
        answer=answer,
    )


async def _chat(
    client: openai.AsyncOpenAI, model: str, example: Example, messages: list[Any], way: str
) -> Answer:
    extra: dict[str, Any] = {}
    if example.tools:
        extra["tools"] = list(example.tools)
    if way == "constrained":
        # what the example says of values is for the judge: the model is to choose them
        plain = {key: part for key, part in (example.schema or {}).items() if key != "const"}
        schema = {"name": "answer", "schema": plain, "strict": True}
        extra["response_format"] = {"type": "json_schema", "json_schema": schema}
    done = await client.chat.completions.create(
        model=model,
        messages=[_plain(message) for message in messages],
        temperature=0,
        max_tokens=MAX_TOKENS,
        **extra,
    )
    choice = done.choices[0]
    return Answer(
        text=choice.message.content or "",
        calls=tuple(
            {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
            for call in choice.message.tool_calls or ()
        ),
        is_ended=choice.finish_reason in ("stop", "tool_calls"),
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


def kind(example: Example) -> str:
    """What the example tests, in the words of the model card."""
    if example.messages[-1].get("tool_calls"):
        return "right tool, right arguments"
    if example.messages[-2]["role"] == "tool":
        return "answer from a tool's result"
    if example.tools:
        return "tools given, none called"
    if example.schema is not None:
        return "JSON fulfils its schema"
    if example.family in ("plus", "minus"):
        return "plus and minus"
    return _file(example.family)


def _file(family: str) -> str:
    """The file of training/families that makes a family."""
    return next(file for file in SHARES if family in members_of(file))


def table(results: list[Result]) -> str:
    """Markdown: right answers by kind and way, and how many answers ended by themselves."""
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for result in results:
        groups[result.kind, result.way].append(result.is_right)
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
    args = ["--model", str(model), "--slots", str(SLOTS), "--log-level", "warning"]
    with PrivateServer(args) as server:
        return asyncio.run(evaluate(server.url, num, wanted, show))


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
