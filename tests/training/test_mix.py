"""What is drawn: the same from the same seed, from all families, and whole conversations."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from training.conversation import Source
from training.families.remembering import OPENING
from training.mix import Mix, families


@pytest.fixture(scope="module")
def mix() -> Mix:
    return Mix()


def test_shares_add_up_to_one():
    assert sum(share for _, share in families().values()) == pytest.approx(1.0)
    assert all(share > 0 for _, share in families().values())


def test_the_same_seed_gives_the_same_conversation(mix: Mix):
    assert [mix.training(i) for i in range(50)] == [Mix().training(i) for i in range(50)]
    assert mix.training(1) != mix.training(2)
    assert mix.test("capital", 1) == Mix().test("capital", 1)


def test_conversations_alternate_and_end_with_the_assistant(mix: Mix):
    for seed in range(1500):
        messages = mix.training(seed).messages
        roles = [message["role"] for message in messages]
        assert "system" not in roles[1:]
        assert roles[-1] == "assistant"
        told = [role for role in roles if role != "system"]
        for before, after in pairwise(told):
            if before in ("user", "tool"):
                assert after in ("assistant", "tool")
            else:
                assert after in ("user", "tool")


def test_most_families_come_up(mix: Mix):
    drawn = Counter(mix.training(seed).family for seed in range(3000))
    assert len(drawn) > 0.8 * len(families())


def test_what_must_open_a_conversation_does(mix: Mix):
    """The first question is asked for, or something that nobody told: nothing came before."""
    makers = {name: make for name, (make, _) in families().items()}
    longest = {
        name: max(len(makers[name](Source(seed)).messages) for seed in range(200))
        for name in OPENING
    }
    opening = [e for e in map(mix.training, range(4000)) if e.family in OPENING]
    assert opening
    for example in opening:
        told = [message for message in example.messages if message["role"] != "system"]
        assert len(told) <= longest[example.family]


def test_unfitting_tools_are_never_called(mix: Mix):
    for seed in range(100):
        example = mix.test("unfitting", seed)
        assert not any(message.get("tool_calls") for message in example.messages)
        assert example.family.endswith("_beside_tools") == bool(example.tools)
