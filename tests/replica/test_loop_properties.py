"""Whatever arrives, is cancelled or runs out: every request gets its own tokens, once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from fmedge.replica.kv_store import KvStore
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import Embed, Embedded, Failed, Step, Submit, WorkerMessage
from fmedge.types import SamplingParams
from tests.fakes import FakeEngine, pack, tokens_alone


class Request(Struct, frozen=True):
    at_step: int
    prompt: tuple[int, ...]
    num_resumed: int
    max_tokens: int
    seed: int
    priority: int
    cache_key: str
    cache_prompt: bool
    cancel_after: int | None
    is_embed: bool


_STEM = tuple(range(3, 60))


@st.composite
def prompts(draw: st.DrawFn) -> tuple[int, ...]:
    """Many share a stem, at whatever length they leave it."""
    stem = _STEM[: draw(st.integers(0, 40))]
    own = draw(st.lists(st.integers(3, 8), min_size=0, max_size=12))
    return (1, *stem, *own)


requests = st.builds(
    Request,
    at_step=st.integers(0, 30),
    prompt=prompts(),
    num_resumed=st.sampled_from([0, 0, 0, 1, 5]),
    max_tokens=st.integers(1, 20),
    seed=st.integers(0, 2),
    priority=st.integers(-1, 1),
    cache_key=st.sampled_from(["", "", "a", "b"]),
    cache_prompt=st.sampled_from([True, True, True, False]),
    cancel_after=st.sampled_from([None, None, None, 0, 1, 4]),
    is_embed=st.sampled_from([False] * 7 + [True]),
)

engines = st.builds(
    dict,
    slots=st.integers(1, 5),
    ctx_size=st.sampled_from([64, 80]),
    kv_unified=st.booleans(),
    kv_tokens=st.sampled_from([0, 40, 70, 120]),
    batch_size=st.sampled_from([8, 32, 128]),
    ubatch_size=st.sampled_from([4, 16]),
    can_cut=st.sampled_from([True, True, False]),
)


def _resumed_at(request: Request, tokens: list[int]) -> int:
    return min(request.num_resumed, max(0, len(tokens) - 1))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests, min_size=1, max_size=14), engines)
def test_each_request_ends_once_with_the_tokens_it_would_get_alone(
    wanted: Sequence[Request], shape: dict[str, int]
) -> None:
    run(wanted, FakeEngine(**shape))


def run(wanted: Sequence[Request], engine: FakeEngine, store: KvStore | None = None) -> None:
    """Everything arrives, and what comes back is checked; the engine is empty in the end."""
    got: dict[int, list[int]] = {i: [] for i in range(len(wanted))}
    ended: dict[int, str] = {}
    cancelled: set[int] = set()

    def emit(message: WorkerMessage) -> None:
        if isinstance(message, Embedded):
            assert message.request_id not in ended
            assert message.vector == pack(wanted[message.request_id].prompt)
            ended[message.request_id] = "embedded"
        elif isinstance(message, Failed):
            assert message.request_id not in ended
            ended[message.request_id] = message.code
        elif isinstance(message, Step):
            for part in message.sequences:
                assert part.request_id not in ended
                assert part.request_id not in cancelled
                got[part.request_id] += part.tokens
                assert (part.finish is None) == (part.timings is None)
                if part.finish is not None:
                    ended[part.request_id] = part.finish

    loop = EngineLoop(engine, emit, clock=engine.clock, store=store)
    alone = [
        tokens_alone(r.prompt, r.max_tokens, ctx_size=engine.info.ctx_size, seed=r.seed)
        for r in wanted
    ]
    arrived_at: dict[int, int] = {}
    bound = 200 + sum(len(r.prompt) + 2 * r.max_tokens for r in wanted) * 4
    for step in range(bound):
        for i, request in enumerate(wanted):
            if request.at_step == step:
                arrived_at[i] = step
                if request.is_embed:
                    loop.embed(Embed(request_id=i, tokens=pack(request.prompt)))
                else:
                    loop.submit(_submit(i, request, alone[i][0]))
            after = request.cancel_after
            if after is not None and i in arrived_at and step == arrived_at[i] + after:
                loop.cancel((i, 10_000 + i))
                if i not in ended:
                    cancelled.add(i)
        if not loop.run_step() and not loop.rest() and step > 30:
            break
    else:
        raise AssertionError("the loop did not come to rest")

    for i, request in enumerate(wanted):
        tokens, finish = alone[i]
        resumed = 0 if request.is_embed else _resumed_at(request, tokens)
        if i in cancelled:
            assert got[i] == tokens[resumed : resumed + len(got[i])]
            assert i not in ended
        elif request.is_embed:
            fits = not engine.info.kv_unified or len(request.prompt) <= engine.info.kv_tokens
            assert ended[i] == ("embedded" if fits else "invalid")
        elif engine.info.kv_unified and len(request.prompt) + len(tokens) > engine.info.kv_tokens:
            assert got[i] == tokens[resumed : resumed + len(got[i])]
            assert ended[i] == "length" or (got[i] == tokens[resumed:] and ended[i] == finish)
        else:
            assert got[i] == tokens[resumed:]
            assert ended[i] == finish
    assert loop.num_running == loop.num_waiting == 0
    loop.clear_cache()
    loop.close()
    assert engine.cells_used == 0


def _submit(request_id: int, request: Request, tokens: list[int]) -> Submit:
    emitted = tokens[: _resumed_at(request, tokens)]
    return Submit(
        request_id=request_id,
        tokens=pack([*request.prompt, *emitted]),
        num_prompt_tokens=len(request.prompt),
        max_tokens=request.max_tokens,
        sampling=SamplingParams(seed=request.seed),
        cache_key=request.cache_key,
        cache_prompt=request.cache_prompt,
        priority=request.priority,
    )
