"""Parts put together: nothing is lost, nothing comes before what it waits for, and what was shared
stays shared."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fmedge.sim.parts import Part, Task, flattened, merged, select
from fmedge.sim.workload import Call


@st.composite
def _task(draw: st.DrawFn, name: str) -> Task:
    """Some calls, each of which waits for some of those above it, or for none."""
    begin_s = draw(st.floats(0, 20))
    task: Task = []
    for place in range(draw(st.integers(1, 5))):
        after = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        later_s = draw(st.floats(0, 5))
        task.append(
            Call(
                at_s=later_s if after else begin_s + later_s * (place > 0),
                num_prompt=draw(st.integers(1, 300)),
                num_output=1,
                blocks=tuple(draw(st.lists(st.integers(0, 6), max_size=3))),
                stage=f"{name}/{place}",
                after=tuple(sorted(after)),
            )
        )
    return task


@st.composite
def _tasks(draw: st.DrawFn) -> list[list[Task]]:
    return [
        sorted(
            (draw(_task(f"{part}.{number}")) for number in range(draw(st.integers(0, 4)))),
            key=lambda task: task[0].at_s,
        )
        for part in range(draw(st.integers(1, 3)))
    ]


def _part(tasks: list[Task], block_tokens: int) -> Part:
    return Part(tasks=iter(tasks), block_tokens=block_tokens)


@given(parts=_tasks(), sizes=st.lists(st.sampled_from([0, 16, 64, 96]), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_put_together(parts: list[list[Task]], sizes: list[int]):
    if not any(parts):
        return
    parts = [
        [[call if size else replace(call, blocks=()) for call in task] for task in tasks]
        for tasks, size in zip(parts, sizes, strict=False)
    ]
    whole = merged([_part(*part) for part in zip(parts, sizes, strict=False)])
    calls = flattened(select(whole.tasks, 0, None, "test"))
    given_calls = {call.stage: call for tasks in parts for task in tasks for call in task}
    assert sorted(call.stage for call in calls) == sorted(given_calls)
    roots = [call.at_s for call in calls if not call.after]
    assert roots == sorted(roots)
    for place, call in enumerate(calls):
        before = given_calls[call.stage]
        task = call.stage.partition("/")[0]
        assert all(n < place for n in call.after)
        assert [calls[n].stage for n in call.after] == [f"{task}/{n}" for n in before.after]
        assert call.at_s == before.at_s
    _check_shared(calls, given_calls, sizes, whole.block_tokens)


def _check_shared(
    calls: tuple[Call, ...], before: dict[str, Call], sizes: list[int], block_tokens: int
) -> None:
    """Two calls share as many tokens as they did, and none with another part."""
    for one in calls:
        for other in calls:
            same_part = one.stage.partition(".")[0] == other.stage.partition(".")[0]
            size = sizes[int(one.stage.partition(".")[0])]
            expected = _shared(before[one.stage], before[other.stage]) * size if same_part else 0
            assert _shared(one, other) * block_tokens == expected


def _shared(one: Call, other: Call) -> int:
    num = 0
    for left, right in zip(one.blocks, other.blocks, strict=False):
        if left != right:
            break
        num += 1
    return num


@given(parts=_tasks(), skip=st.integers(0, 6), requests=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_tasks_are_taken_or_left_whole(parts: list[list[Task]], skip: int, requests: int):
    tasks = parts[0]
    sizes = [len(task) for task in tasks]
    first = 0
    while first < len(tasks) and sum(sizes[:first]) < skip:
        first += 1
    if sum(sizes[first:]) < requests:
        return
    taken = select(iter(tasks), skip, requests, "test")
    assert taken == tasks[first : first + len(taken)]
    assert sum(map(len, taken)) >= requests > sum(map(len, taken[:-1]))
