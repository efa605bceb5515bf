"""The steps by which the planner goes from one choice for a model to the next.

The rule: what somebody gave is never changed; everything else moves along a ladder.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fmedge.sched.provision.demand import demands_of, longest
from fmedge.sched.provision.request import (
    DEFAULT_CTX_SIZE,
    MOST_SLOTS,
    SMALLEST_CTX_SIZE,
    Choice,
    ModelRequest,
    PlanRequest,
)
from fmedge.sched.provision.shape import ModelShape

SLOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CTX_STEP = 256
SERVED_SHARE = 0.995
"""Of the demand's requests, that the context shall hold."""

HALF_KV = "q8_0"
_BLOCK = 32
"""Elements of a block of HALF_KV: rows of other lengths cannot be stored in it."""


def first_choice(model: ModelRequest, request: PlanRequest) -> Choice:
    """What is wanted if it fits: the largest quantisation, the whole context, one slot."""
    engine = model.engine
    return Choice(
        shape=0,
        ctx_size=wanted_ctx_size(model, request),
        slots=engine.slots if "slots" in model.given else 1,
        type_k=engine.type_k,
        type_v=engine.type_v,
        num_replicas=max(1, model.min_replicas),
    )


def wanted_ctx_size(model: ModelRequest, request: PlanRequest) -> int:
    """As given, else as long as the demand's requests are, else DEFAULT_CTX_SIZE; at most what the
    model was trained for."""
    if "ctx_size" in model.given and model.engine.ctx_size:
        return model.engine.ctx_size
    trained = model.shapes[0].ctx_train or DEFAULT_CTX_SIZE
    needed = longest(demands_of(model.name, request.demand), SERVED_SHARE)
    return min(trained, max(DEFAULT_CTX_SIZE, _rounded(needed)))


def least_ctx_size(model: ModelRequest, request: PlanRequest) -> int:
    """What it may shrink to."""
    wanted = wanted_ctx_size(model, request)
    if "ctx_size" in model.given:
        return wanted
    needed = _rounded(longest(demands_of(model.name, request.demand), SERVED_SHARE))
    return min(wanted, max(SMALLEST_CTX_SIZE, needed))


def _rounded(tokens: int) -> int:
    return -(-tokens // CTX_STEP) * CTX_STEP


def relaxed(model: ModelRequest, request: PlanRequest, choice: Choice) -> Choice | None:
    """The next thing to give up where something does not fit: KV of half the size, the next smaller
    quantisation, slots, half the context. None: nothing is left."""
    half = with_half_kv(model, choice)
    if half is not None:
        return half
    if choice.shape + 1 < len(model.shapes):
        engine = model.engine
        return replace(choice, shape=choice.shape + 1, type_k=engine.type_k, type_v=engine.type_v)
    least = least_ctx_size(model, request)
    if choice.ctx_size > least:
        return replace(choice, ctx_size=max(least, choice.ctx_size // 2 // CTX_STEP * CTX_STEP))
    return None


def with_half_kv(model: ModelRequest, choice: Choice) -> Choice | None:
    """The same with KV of half the size, where nobody said what it is and rows can be stored so."""
    is_given = {"type_k", "type_v"} & model.given
    if is_given or choice.type_k != "f16" or choice.type_v != "f16":
        return None
    if model.engine.flash_attn == "off" or not takes_blocks(model.shapes[choice.shape]):
        return None
    return replace(choice, type_k=HALF_KV, type_v=HALF_KV)


def takes_blocks(shape: ModelShape) -> bool:
    caching = [layer for layer in shape.layers if layer.k_width]
    return bool(caching) and all(
        layer.head_width % _BLOCK == 0 and layer.head_width > 0 and layer.v_width > 0
        for layer in caching
    )


def more_slots(model: ModelRequest, choice: Choice, most: int = MOST_SLOTS) -> Choice | None:
    if "slots" in model.given:
        return None
    slots = next((n for n in SLOTS if choice.slots < n <= most), None)
    return None if slots is None else replace(choice, slots=slots)


def fewer_slots(model: ModelRequest, choice: Choice) -> Choice | None:
    if "slots" in model.given or choice.slots == 1:
        return None
    return replace(choice, slots=max(n for n in SLOTS if n < choice.slots))


def more_replicas(
    model: ModelRequest, choice: Choice, most: int, num_more: int = 1
) -> Choice | None:
    """most: devices that there are for them."""
    most = min(model.max_replicas, most)
    if model.ranges or choice.num_replicas >= most:
        return None
    return replace(choice, num_replicas=min(most, choice.num_replicas + num_more))


def moves(model: ModelRequest, choice: Choice, num_devices: int) -> Iterator[Choice]:
    """Neighbours that may serve a demand better."""
    slots = more_slots(model, choice)
    if slots is not None:
        yield more_slots(model, slots) or slots  # about twice as many
        yield slots
    for other in (
        more_replicas(model, choice, num_devices, max(1, choice.num_replicas // 4)),
        with_half_kv(model, choice),
        fewer_slots(model, choice),
    ):
        if other is not None:
            yield other


def cuts(model: ModelRequest, choice: Choice) -> Iterator[Choice]:
    """Neighbours that cost less: fewer replicas, exact KV, fewer slots."""
    if choice.num_replicas > max(1, model.min_replicas):
        yield replace(choice, num_replicas=choice.num_replicas - 1)
    engine = model.engine
    if (choice.type_k, choice.type_v) != (engine.type_k, engine.type_v):
        yield replace(choice, type_k=engine.type_k, type_v=engine.type_v)
    slots = fewer_slots(model, choice)
    if slots is not None:
        yield slots
