"""The mirror of prefixes: it believes what the engine's placement would do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.prefixes import BLOCK_TOKENS, PrefixMirror, chain


def tokens(*parts: tuple[int, int]) -> bytes:
    """Packed tokens: (seed, count) parts one after the other."""
    rows = [np.random.default_rng(seed).integers(0, 32000, count) for seed, count in parts]
    return np.concatenate(rows).astype("<i4").tobytes()


def mirror(**num_ids: int) -> PrefixMirror:
    made = PrefixMirror()
    for name, count in num_ids.items():
        made.add_replica(name, count)
    return made


def test_what_was_submitted_is_held_and_stays_when_it_ends():
    prefixes = mirror(a=4, b=4)
    prompt = chain("", tokens((1, 200)))
    prefixes.begin("a", 1, prompt)
    again = chain("", tokens((1, 200), (2, 50)))
    assert prefixes.match(again, 250) == {"a": 192}
    prefixes.end("a", 1, chain("", tokens((1, 200), (3, 30))))
    assert prefixes.match(again, 250) == {"a": 192}
    assert prefixes.num_retained("a") == 1


def test_the_longest_prefix_counts_for_each_replica():
    prefixes = mirror(a=4, b=4)
    system, question = (7, 10 * BLOCK_TOKENS), (8, 5 * BLOCK_TOKENS)
    prefixes.begin("a", 1, chain("", tokens(system)))
    prefixes.begin("b", 2, chain("", tokens(system, question)))
    asked = chain("", tokens(system, question, (9, 40)))
    assert prefixes.match(asked, 15 * BLOCK_TOKENS + 40) == {
        "a": 10 * BLOCK_TOKENS,
        "b": 15 * BLOCK_TOKENS,
    }


def test_the_last_token_always_runs():
    prefixes = mirror(a=4)
    prompt = chain("", tokens((1, 2 * BLOCK_TOKENS)))
    prefixes.begin("a", 1, prompt)
    assert prefixes.match(prompt, 2 * BLOCK_TOKENS) == {"a": 2 * BLOCK_TOKENS - 1}


def test_keys_never_meet():
    prefixes = mirror(a=4)
    prefixes.begin("a", 1, chain("alice", tokens((1, 200))))
    assert prefixes.match(chain("bob", tokens((1, 200))), 200) == {}
    assert prefixes.match(chain("alice", tokens((1, 200))), 200) == {"a": 192}


def test_least_recently_used_goes_first():
    prefixes = mirror(a=2)
    old, new, third = (chain("", tokens((seed, 100))) for seed in (1, 2, 3))
    for request_id, blocks in ((1, old), (2, new)):
        prefixes.begin("a", request_id, blocks)
        prefixes.end("a", request_id, blocks)
    # a longer one reads `old` where it is not worth taking over in place
    prefixes.begin("a", 3, third)
    assert prefixes.match(old, 100) == {}
    assert prefixes.match(new, 100) == {"a": 96}


def test_a_conversation_goes_on_in_place():
    prefixes = mirror(a=2)
    first = tokens((1, 320))
    prefixes.begin("a", 1, chain("", first))
    prefixes.end("a", 1, chain("", first))
    other = chain("", tokens((5, 320)))
    prefixes.begin("a", 2, other)
    prefixes.end("a", 2, other)
    prefixes.begin("a", 3, chain("", first + tokens((2, 64))))
    assert prefixes.num_retained("a") == 1
    assert prefixes.match(other, 320) == {"a": 319}


def test_a_lost_replica_holds_nothing():
    prefixes = mirror(a=2, b=2)
    prompt = chain("", tokens((1, 100)))
    prefixes.begin("a", 1, prompt)
    prefixes.begin("b", 2, prompt)
    prefixes.drop_replica("a")
    assert prefixes.match(prompt, 100) == {"b": 96}
    prefixes.end("a", 1, prompt)
    prefixes.drop_replica("a")
    assert prefixes.match(prompt, 100) == {"b": 96}


def test_clearing_forgets_what_is_retained_alone():
    prefixes = mirror(a=4)
    done, running = chain("", tokens((1, 100))), chain("", tokens((2, 100)))
    prefixes.begin("a", 1, done)
    prefixes.end("a", 1, done)
    prefixes.begin("a", 2, running)
    prefixes.clear("a")
    assert prefixes.match(done, 100) == {}
    assert prefixes.match(running, 100) == {"a": 96}


@pytest.mark.parametrize("num_tokens", [0, 1, BLOCK_TOKENS - 1])
def test_short_prompts_have_no_blocks(num_tokens):
    assert chain("", tokens((1, num_tokens))) == ()
    prefixes = mirror(a=1)
    prefixes.begin("a", 1, ())
    prefixes.end("a", 1, ())
    assert prefixes.match((), num_tokens) == {}


@given(st.data())
def test_ids_are_bounded_and_everything_is_given_back(data):
    prefixes = mirror(a=3, b=2)
    limit = {"a": 3, "b": 2}
    live: dict[int, str] = {}
    for request_id in range(data.draw(st.integers(1, 30))):
        for done in [i for i in live if data.draw(st.booleans())]:
            keeps = data.draw(st.booleans())
            seed = data.draw(st.integers(0, 3))
            blocks = chain("", tokens((seed, 96), (done, 64))) if keeps else None
            prefixes.end(live.pop(done), done, blocks)
        name = data.draw(st.sampled_from(["a", "b"]))
        if sum(where == name for where in live.values()) < limit[name]:
            seed = data.draw(st.integers(0, 3))
            blocks = chain("", tokens((seed, 96), (request_id, 32)))
            prefixes.begin(name, request_id, blocks)
            live[request_id] = name
            assert prefixes.match(blocks, 128)[name] == 127
        for each, most in limit.items():
            num_live = sum(where == each for where in live.values())
            assert prefixes.num_retained(each) + num_live <= most
    for name in limit:
        prefixes.drop_replica(name)
    assert prefixes.num_blocks == 0
