"""Right answers are told from wrong ones."""

from __future__ import annotations

from training.conversation import Example, assistant, calls, user
from training.judge import Answer, is_right, is_valid

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


def test_a_key_is_a_whole_word_or_number():
    example = Example(family="x", messages=(user("?"), assistant("")), key="34")
    assert is_right(example, Answer(text="12 + 22 = 34."))
    assert not is_right(example, Answer(text="2 - 36 = -34."))
    assert not is_right(example, Answer(text="That is 134."))
    place = Example(family="x", messages=(user("?"), assistant("")), key="New York")
    assert is_right(place, Answer(text="it is new york!"))


def test_an_exact_answer_may_differ_in_outer_space_alone():
    example = Example(family="x", messages=(user("?"), assistant("a  B")), is_exact=True)
    assert is_right(example, Answer(text=" a  B\n"))
    assert not is_right(example, Answer(text="a B"))


def test_json_must_be_one_value_that_fulfils_the_schema():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    example = Example(family="x", messages=(user("?"), assistant("{}")), schema=schema)
    assert is_right(example, Answer(text='{"n": 1}'))
    for wrong in ('{"n": "1"}', '{"n": 1', '```json\n{"n": 1}\n```', "{}"):
        assert not is_right(example, Answer(text=wrong))


def test_json_may_be_valid_and_hold_other_values_than_those_told():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "const": {"n": 1}}
    example = Example(family="x", messages=(user("?"), assistant("{}")), schema=schema)
    assert is_valid(example, Answer(text='{"n": 2}'))
    assert not is_right(example, Answer(text='{"n": 2}'))
    assert is_right(example, Answer(text='{"n": 1}'))
    assert not is_valid(example, Answer(text='{"n": "1"}'))


def test_calls_are_compared_with_their_arguments_in_any_order():
    wanted = calls(("get_weather", {"city": "Rome"}), ("get_weather", {"city": "Oslo"}))
    example = Example(family="x", messages=(user("?"), wanted), tools=(TOOL,))
    rome = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    oslo = rome.replace("Rome", "Oslo")
    assert is_right(example, Answer.read(f"{oslo}\n{rome}", is_ended=True))
    assert not is_right(example, Answer.read(rome, is_ended=True))
    assert not is_right(example, Answer.read(rome + rome, is_ended=True))
    assert not is_right(example, Answer.read("It is warm.", is_ended=True))
    assert not is_right(example, Answer.read(rome.replace("}}", "}"), is_ended=True))


def test_a_call_where_none_was_wanted_is_wrong():
    example = Example(
        family="x", messages=(user("?"), assistant("Hello!")), tools=(TOOL,), key="Hello"
    )
    call = '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>'
    assert is_right(example, Answer.read("Hello!", is_ended=True))
    assert not is_right(example, Answer.read("Hello!" + call, is_ended=True))
