from __future__ import annotations

import datetime
import threading
import time

import psutil
import pytest

from fmedge.errors import ModelFileError, RequestError
from fmedge.models.child import NotYetError, patience
from fmedge.models.template import ChatTemplate, TemplateLimits, renderer

USER = [{"role": "user", "content": "Hi"}]
CHATML_STYLE = """\
{% if tools %}
[tools]{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}[/tools]
{% endif %}
{% for m in messages %}
    {% generation %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
    {% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}
<think>

</think>

{% endif %}
{% endif %}
"""
LLAMA_STYLE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>"
    "\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA_STYLE = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('no system role here') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
    "<end_of_turn>\n{% endfor %}<start_of_turn>model\n"
)
MISTRAL_STYLE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "{% endfor %}]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def test_the_fallback_is_chatml() -> None:
    template = ChatTemplate(None)
    text = template.render([{"role": "system", "content": "S"}, *USER])
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert text == expected + "<|im_start|>assistant\n"
    assert template.render(USER, None, False).endswith("<|im_end|>\n")


def test_block_trimming_generation_tags_tools_and_variables() -> None:
    template = ChatTemplate(CHATML_STYLE)
    tools = [{"type": "function", "function": {"name": "a<b", "description": "é'"}}]
    text = template.render(USER, tools, enable_thinking=False)
    assert text == (
        "[tools]" + '{"name": "a<b", "description": "é\'"}' + "[/tools]\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert template.supports_tools


def test_llama_style() -> None:
    text = ChatTemplate(LLAMA_STYLE, "<|begin|>", "<|eot_id|>").render(
        [{"role": "developer", "content": " Be brief. "}, *USER]
    )
    assert text == (
        "<|begin|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_what_a_template_complains_about_is_the_clients_error() -> None:
    template = ChatTemplate(GEMMA_STYLE, "<bos>")
    expected = "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model"
    assert template.render(USER) == expected  # Jinja drops a template's last newline
    with pytest.raises(RequestError, match="no system role here") as caught:
        template.render([{"role": "system", "content": "x"}, *USER])
    assert caught.value.param == "messages"
    with pytest.raises(RequestError, match="roles must alternate"):
        template.render([*USER, *USER])
    assert template.render(USER)  # nothing is broken by it


def test_tool_calls_arrive_as_objects_and_text_parts_as_text() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": [1, "<"]}'}}],
        },
    ]
    text = ChatTemplate(MISTRAL_STYLE, "<s>", "</s>").render(messages)
    assert text == '<s>[INST] a\nb[/INST][TOOL_CALLS][{"name": "f", "arguments": {"x": [1, "<"]}}]'


def test_loop_controls_and_dates() -> None:
    source = "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert ChatTemplate(source).render(USER) == "012"
    year = ChatTemplate("{{ strftime_now('%Y') }}").render(USER)
    assert abs(int(year) - datetime.datetime.now().astimezone().year) <= 1


HOSTILE = {
    "endless loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "huge output": "{% for i in range(99999) %}{{ 'a' * 10000 }}{% endfor %}",
    "huge string": "{{ 'a' * 10**12 }}",
    "huge by format": "{{ '%999999999999d' % 1 }}",
    "huge by filter": "{{ 'a' | center(10**12) }}",
    "doubling": "{% set n = namespace(s='a') %}{% for i in range(99) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "nested lists": "{% set n = namespace(s=[1]) %}{% for i in range(64) %}"
    "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "huge number": "{% set n = namespace(s=9) %}{% for i in range(99) %}"
    "{% set n.s = n.s * n.s %}{% endfor %}{{ n.s }}",
    "recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "folded at compile time": "{{ ('a' * 10**10) | length }}",
    "deep nesting": "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_cut_off(name: str) -> None:
    limits = TemplateLimits(cpu_s=0.15, wall_s=10.0, memory_bytes=300 << 20, output_chars=1 << 20)
    template = ChatTemplate(HOSTILE[name], limits=limits)
    started_s = time.monotonic()
    with pytest.raises(RequestError):
        template.render(USER)
    assert time.monotonic() - started_s < 20
    template.close()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    try:
        text = ChatTemplate(source).render(USER)
    except RequestError:
        text = ""
    assert text == ""  # Jinja prints nothing for an attribute it forbids


def test_a_broken_template_is_found_at_the_start() -> None:
    with pytest.raises(ModelFileError, match="line 2"):
        ChatTemplate("\n{% for %}").check()
    ChatTemplate(LLAMA_STYLE).check()


def test_a_renderer_that_died_is_replaced() -> None:
    template = ChatTemplate(LLAMA_STYLE)
    first = template.render(USER)
    child = template._sandbox._child
    assert child is not None
    child._process.kill()
    child._process.wait()
    assert template.render(USER) == first
    template.close()
    assert template.render(USER) == first
    template.close()


def test_a_renderer_that_was_started_early_is_the_one_that_renders() -> None:
    sandbox = renderer()
    sandbox.start()
    child = sandbox._child
    assert child is not None
    sandbox.start()
    assert sandbox._child is child
    template = ChatTemplate(LLAMA_STYLE, sandbox=sandbox)
    with patience(5.0), pytest.raises(NotYetError):  # it has yet to be told the template
        template.render(USER)
    first = template.render(USER)
    assert sandbox._child is child
    with patience(5.0):
        assert template.render(USER) == first
    template.close()


def test_a_limit_is_kept_again_after_the_child_was_killed() -> None:
    template = ChatTemplate(
        "{% for i in range(messages[0].content) %}{% for j in range(99999) %}{% endfor %}"
        "{% endfor %}done",
        limits=TemplateLimits(cpu_s=0.2),
    )
    for _ in range(2):
        with pytest.raises(RequestError, match="CPU time"):
            template.render([{"content": 99999}])
        assert template.render([{"content": 1}]) == "done"
    template.close()


def test_threads_share_a_template() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    wrong: list[str] = []

    def work(text: str) -> None:
        texts = [template.render([{"role": "user", "content": text}]) for _ in range(20)]
        wrong.extend(other for other in texts if other != text)

    threads = [threading.Thread(target=work, args=(f"é{n}" * 1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    template.close()


def test_large_prompts_pass() -> None:
    text = "x" * 3_000_000
    assert ChatTemplate("{{ messages[0].content }}").render([{"content": text}]) == text


def test_an_impatient_caller_is_told_to_come_again_and_nobody_gets_its_answer() -> None:
    template = ChatTemplate("{{ messages[0].content }}", "", "")
    others = set(psutil.Process().children())
    try:
        with patience(0.0), pytest.raises(NotYetError):  # not started yet
            template.render([{"role": "user", "content": "first"}])
        assert template.render([{"role": "user", "content": "second"}]) == "second"
        (child,) = set(psutil.Process().children()) - others
        child.suspend()
        with patience(0.01), pytest.raises(NotYetError):  # asked, and its answer not waited for
            template.render([{"role": "user", "content": "third"}])
        child.resume()
        assert template.render([{"role": "user", "content": "fourth"}]) == "fourth"
        with patience(60.0):
            assert template.render([{"role": "user", "content": "fifth"}]) == "fifth"
    finally:
        template.close()


def test_a_caller_after_a_hostile_one_is_not_blamed() -> None:
    forever = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    source = f"{{% if messages[0].content == 'bad' %}}{forever}{{% endif %}}"
    source += "{{ messages[0].content }}"
    template = ChatTemplate(source, "", "")
    try:
        assert template.render([{"role": "user", "content": "good"}]) == "good"
        with patience(0.05), pytest.raises(NotYetError):
            template.render([{"role": "user", "content": "bad"}])
        assert template.render([{"role": "user", "content": "good"}]) == "good"
    finally:
        template.close()
