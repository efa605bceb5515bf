"""A child process for work on untrusted input: chat templates rendered, grammars compiled.

A template comes out of a model file that anybody may have written. Jinja's sandbox keeps it from
Python's internals, but not from looping for ever or from building a string of terabytes in one
C call. A grammar comes from a client; one that nests deeply enough overflows llguidance's stack,
which no exception reports. So both run in a process whose address space and CPU time the kernel
limits. It serves requests from stdin until end of file; the CPU timer kills it in the middle of
one that takes too long, even if the parent is gone by then.

Started by `fmedge.models.child`; imports nothing of fmedge. Frames in both directions
are a 4-byte little-endian length and JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
import threading
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LENGTH = struct.Struct("<I")
GRAMMAR_STACK_BYTES = 1 << 20


class ComplaintError(TemplateError):
    """The template called raise_exception()."""


class OutputTooLongError(Exception):
    """The template's output passed the limit."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012 - Extension declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models saw it in training: no HTML escapes, unlike Jinja's own filter."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message: object = "") -> None:
    raise ComplaintError(str(message)[:2000])


def strftime_now(format: str) -> str:  # noqa: A002 - the name templates know
    return datetime.now().astimezone().strftime(format)


def make_environment() -> ImmutableSandboxedEnvironment:
    """The dialect of Jinja that chat templates are written in (Hugging Face's conventions)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[LoopControlExtension, GenerationTag],
        cache_size=0,
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def render(template: Template, variables: dict[str, Any], max_chars: int) -> str:
    parts: list[str] = []
    num_chars = 0
    for part in template.generate(variables):
        num_chars += len(part)
        if num_chars > max_chars:
            raise OutputTooLongError
        parts.append(part)
    return "".join(parts)


def check_grammar(source: str) -> dict[str, str]:
    """On a smaller stack than any worker's thread has: what passes here passes there."""
    from llguidance import LLMatcher

    reply: dict[str, str] = {"text": ""}

    def check() -> None:
        is_error, messages = LLMatcher.validate_grammar_with_warnings(source)
        if is_error:
            reason = messages[0].strip()[:1000] if messages else "unknown reason"
            reply.update(kind="grammar", error=reason)

    threading.stack_size(GRAMMAR_STACK_BYTES)
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    return reply


def convert_gbnf(source: str) -> dict[str, str]:
    """`text` is the Lark grammar, not yet checked. The converter's time grows with the square."""
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    try:
        return {"text": any_to_lark(source)}
    except GbnfToLarkError as error:
        return {"kind": "grammar", "error": str(error)[:1000]}


def answer(request: dict[str, Any], compiled: dict[str, Template]) -> dict[str, str]:
    """`text`, or `kind` and `error`. A request without variables only compiles its source."""
    try:
        if "grammar" in request:
            return check_grammar(request["grammar"])
        if "gbnf" in request:
            return convert_gbnf(request["gbnf"])
        if "source" in request:
            compiled["it"] = make_environment().from_string(request["source"])
        if "variables" not in request:
            return {"text": ""}
        return {"text": render(compiled["it"], request["variables"], request["max_chars"])}
    except ComplaintError as error:
        return {"kind": "complaint", "error": str(error)}
    except TemplateSyntaxError as error:
        return {"kind": "syntax", "error": f"line {error.lineno}: {error.message}"[:2000]}
    except OutputTooLongError:
        return {"kind": "limit", "error": f"more than {request['max_chars']} characters of output"}
    except (MemoryError, RecursionError) as error:
        return {"kind": "limit", "error": "too much memory or recursion: " + type(error).__name__}
    except Exception as error:  # whatever an untrusted template brings about
        return {"kind": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}


def read_exactly(size: int) -> bytes | None:
    data = sys.stdin.buffer.read(size)
    return data if len(data) == size else None


def serve(cpu_s: float) -> None:
    compiled: dict[str, Template] = {}
    while (head := read_exactly(LENGTH.size)) is not None:
        body = read_exactly(LENGTH.unpack(head)[0])
        if body is None:
            return
        request = json.loads(body)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        reply = json.dumps(answer(request, compiled), ensure_ascii=True).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(LENGTH.pack(len(reply)) + reply)
        sys.stdout.buffer.flush()


def main(cpu_s: float, memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; end of file ends us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    serve(cpu_s)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
