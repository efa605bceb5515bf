"""Every sum in an answer is right, and the test asks what training has not."""

import re

import pytest

from tests.training import checks
from training.conversation import Source
from training.families import arithmetic_phrasings as phrasings
from training.families.arithmetic import (
    FAMILIES,
    make_comparison,
    make_minus,
    make_plus,
    written,
)

_STEP = re.compile(r"-?\d+( [-+*/] \d+){1,2}|-\(\d+( [-+] \d+){1,2}\)")
_PAIRS = (
    *phrasings.BY_OPERATION.values(),
    *phrasings.PROBLEMS.values(),
    *phrasings.NEXT.values(),
    phrasings.INSTEAD,
    (phrasings.THREE_TRAINED, phrasings.THREE_KEPT_BACK),
    (phrasings.DOUBLE_TRAINED, phrasings.DOUBLE_KEPT_BACK),
    (phrasings.HALF_TRAINED, phrasings.HALF_KEPT_BACK),
    (phrasings.LARGER_TRAINED, phrasings.LARGER_KEPT_BACK),
    (phrasings.SMALLER_TRAINED, phrasings.SMALLER_KEPT_BACK),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_conversations_can_be_checked(name: str) -> None:
    checks.check_family(FAMILIES, name)


def test_kept_back_phrasings_are_new_but_made_of_known_words() -> None:
    checks.check_kept_back(_PAIRS)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_sum_is_right(name: str) -> None:
    for example in checks.examples(FAMILIES[name][0]):
        for message in example.messages[1::2]:
            text = message["content"].removesuffix(".")
            if "remainder" in text:
                a, b, quotient, rest = map(int, re.findall(r"\d+", text))
                assert divmod(a, b) == (quotient, rest)
            elif "=" in text:
                *steps, result = text.split(" = ")
                for step in steps:
                    # Only digits, signs and parentheses are evaluated.
                    assert _STEP.fullmatch(step), text
                    assert eval(step) == int(result), text
            else:
                assert re.search(r"larger than|smaller than|are equal|not defined", text)


def test_a_comparison_is_right_and_answers_what_is_asked() -> None:
    for example in checks.examples(make_comparison):
        question, answer = (message["content"] for message in example.messages)
        first, second = map(int, re.findall(r"\d+", answer))
        if "equal" in answer:
            assert first == second
        elif "larger" in answer:
            assert first > second
            assert not re.search("small|less", question)
        else:
            assert first < second
            assert re.search("small|less", question)


def test_the_numbers_of_a_sum_are_those_of_the_question() -> None:
    for make in (make_plus, make_minus):
        for example in checks.examples(make):
            question, answer = (message["content"] for message in example.messages)
            asked = re.findall(r"\d+", question)
            if asked:
                assert sorted(asked) == sorted(re.findall(r"\d+", answer.split(" = ")[0]))


def test_sums_of_the_test_are_not_trained() -> None:
    trained, tested = (
        {checks.last_answer(make_plus(Source(seed, is_test=is_test))) for seed in range(2000)}
        for is_test in (False, True)
    )
    assert not trained & tested


def test_everyday_sums_are_always_trained() -> None:
    trained = {checks.last_answer(make_plus(Source(seed))) for seed in range(12_000)}
    assert {"2 + 2 = 4.", "1 + 1 = 2.", "5 + 5 = 10."} <= trained


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ((47, "+", 38), "47 + 38 = 70 + 15 = 85."),
        ((40, "+", 30), "40 + 30 = 70."),
        ((52, "-", 17), "52 - 17 = 42 - 7 = 35."),
        ((23, "-", 57), "23 - 57 = -(57 - 23) = -(37 - 3) = -34."),
        ((-30, "+", 12), "-30 + 12 = -(30 - 12) = -(20 - 2) = -18."),
        ((632, "-", 285), "632 - 285 = 432 - 85 = 352 - 5 = 347."),
    ],
)
def test_the_steps_of_a_sum(question: tuple[int, str, int], answer: str) -> None:
    assert written(*question) == answer
