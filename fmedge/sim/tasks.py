"""Tasks of several calls that are drawn: stages with branches, joins and tool time.

The rule: a stage that a task does not have is as if it had never been written: what waits for it
waits for what it would have waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice

from msgspec.structs import replace

from fmedge.config.demand import MAX_TOKENS
from fmedge.config.tasks import StageConfig, TaskConfig
from fmedge.sim.arrivals import times
from fmedge.sim.parts import Part, Task
from fmedge.sim.synthetic import BLOCK_TOKENS, Draws, num_blocks, num_expected
from fmedge.sim.workload import Call


def task_part(config: TaskConfig, *seed: int) -> Part:
    has_blocks = config.prefix_tokens or config.context_tokens
    return Part(
        tasks=islice(_tasks(config, Draws(*seed)), config.requests),
        block_tokens=BLOCK_TOKENS if has_blocks else 0,
        workflows={config.settings.name: config.settings},
        num_expected=num_expected(config),
    )


class _Stage:
    """A stage and what is drawn for it."""

    def __init__(self, config: StageConfig, draws: Draws) -> None:
        name = config.name
        self.config = config
        self.prompts = draws.numbers(f"{name} prompt", config.prompt_tokens)
        self.outputs = draws.numbers(f"{name} output", config.output_tokens)
        self.tools = draws.spread(f"{name} tool", config.tool_s)
        self._shares = draws.uniform(f"{name} share")
        self._calls = draws.uniform(f"{name} calls")

    def num_calls(self) -> int:
        """Of one more task; 0 where it does not have this stage."""
        least, most = self.config.calls
        number = least + int(next(self._calls) * (most - least + 1))
        return number if next(self._shares) < self.config.share else 0


def _tasks(config: TaskConfig, draws: Draws) -> Iterator[Task]:
    stages = [_Stage(stage, draws) for stage in config.stages]
    contexts = draws.spread("context", config.context_tokens)
    prefix = tuple(range(num_blocks(config.prefix_tokens)))
    own = count(len(prefix))
    arrivals = times(config.arrivals, draws.rng("arrivals"))
    for number, at_s in enumerate(arrivals):
        blocks = (*prefix, *islice(own, num_blocks(round(next(contexts)))))
        calls = _calls(config, stages, blocks, at_s, f"{config.settings.name}-{number}")
        if calls:  # none of its stages was drawn
            yield calls


def _calls(
    config: TaskConfig, stages: list[_Stage], blocks: tuple[int, ...], at_s: float, instance: str
) -> Task:
    calls: Task = []
    ends: dict[str, tuple[int, ...]] = {}  # of each stage: the calls that one after it waits for
    sender = config.sender
    for stage in stages:
        found = stage.config
        after = tuple(sorted(set(chain.from_iterable(ends[name] for name in found.after))))
        begin = len(calls)
        tool_s = next(stage.tools)
        for _ in range(stage.num_calls()):
            num_prompt = len(blocks) * BLOCK_TOKENS + next(stage.prompts)
            num_output = next(stage.outputs)
            calls.append(
                Call(
                    at_s=tool_s if after else at_s,
                    num_prompt=min(MAX_TOKENS, num_prompt),
                    num_output=min(num_output, found.max_tokens or num_output),
                    max_tokens=found.max_tokens,
                    blocks=blocks,
                    model=sender.model,
                    promise=sender.promise,
                    api_key=sender.api_key,
                    priority=sender.priority,
                    workflow=config.settings.name,
                    instance=instance,
                    stage=found.name,
                    after=after,
                )
            )
        ends[found.name] = tuple(range(begin, len(calls))) or after
    return _with_last(calls)


def _with_last(calls: Task) -> Task:
    """The client says that a task ends with its last call, if it can know: if all others end
    before that begins."""
    waited_for = set(chain.from_iterable(call.after for call in calls))
    if calls and len(waited_for) == len(calls) - 1:
        calls[-1] = replace(calls[-1], is_last=True)
    return calls
