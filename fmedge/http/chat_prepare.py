"""A chat body to GenerationRequests: messages rendered, tools and formats made into grammars.

Pure but for the template's own process; may take long, so it runs in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from fmedge.errors import RequestError
from fmedge.http.auth import api_key_id
from fmedge.http.chat_schemas import (
    AllowedToolChoice,
    AssistantMessage,
    JsonObject,
    Message,
    NamedTool,
    RefusalPart,
    Tool,
)
from fmedge.http.context import Context
from fmedge.http.decode import BodyDecoder, check_depth, nearest
from fmedge.http.sampling import (
    Sender,
    check_batch,
    check_streaming,
    extension_grammar,
    priority_of,
    requests_for,
)
from fmedge.http.schemas import ChatRequest
from fmedge.models.reasoning import ReasoningSplitter
from fmedge.models.text import PieceTable
from fmedge.models.tool_parser import ToolParser
from fmedge.types import GenerationRequest, Grammar

if TYPE_CHECKING:
    from fmedge.models.served import ChatPrompt, ServedModel

_decoder = BodyDecoder(ChatRequest)
_RESERVED_KWARGS = frozenset({"self", "messages", "tools", "add_generation_prompt"})


class Tooling(NamedTuple):
    """tools: what the model is shown; callable_tools: what the grammar lets it call."""

    tools: list[JsonObject]
    callable_tools: list[JsonObject]
    choice: str | JsonObject

    @property
    def is_on(self) -> bool:
        return bool(self.tools) and self.choice != "none"


class PreparedChat(NamedTuple):
    """A checked request."""

    body: ChatRequest
    model: ServedModel
    requests: list[GenerationRequest]
    prompt: ChatPrompt
    has_tools: bool

    @property
    def pieces(self) -> PieceTable:
        """What the output's parsers must see."""
        return self.model.tool_pieces if self.has_tools else self.model.chat_pieces

    def splitter(self) -> ReasoningSplitter | None:
        """A fresh one for a choice, if the model reasons aloud."""
        return self.model.splitter(self.prompt)

    def parser(self) -> ToolParser | None:
        """A fresh one for a choice, if tools may be called."""
        return self.model.tool_format.parser() if self.has_tools else None


def prepare(
    body: bytes, context: Context, request: web.Request, *, is_estimate: bool = False
) -> PreparedChat:
    """is_estimate: nothing will run, so nothing is refused for want of room.

    Raises RequestError, ModelNotFoundError, UnavailableError."""
    asked = _decoder.decode(body)
    model = context.model(asked.model)
    check_streaming(asked)
    if asked.top_logprobs is not None and not asked.logprobs:
        raise RequestError(
            "`top_logprobs` needs `logprobs`: true.", param="top_logprobs", code="invalid_value"
        )
    if not model.can_generate:
        raise RequestError(f"`{model.name}` is an embedding model: it cannot chat.", param="model")
    check_batch(asked.n or 1, context.settings.max_batch, "n")
    terms = context.promises.terms(request, model.name, sla=asked.sla, tier=asked.service_tier)
    if not is_estimate:
        context.dispatcher.check(model.name, promise=terms.promise, num_body_bytes=len(body))
    tooling = tooling_of(asked)
    prompt = model.chat_prompt(
        messages_of(asked.messages),
        tooling.tools,
        tooling.choice,
        template_kwargs=template_kwargs(asked, model),
    )
    requests = requests_for(
        asked,
        model,
        prompt.tokens,
        prompt_param="messages",
        num_choices=asked.n or 1,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else -1,
        grammar=grammar_of(asked, model, tooling, prompt),
        has_tools=tooling.is_on,
        priority=priority_of(asked, context.settings.class_of_tier),
        sender=Sender(context.cache_key(request, asked.prompt_cache_key), api_key_id(request)),
        terms=terms,
    )
    return PreparedChat(asked, model, requests, prompt, tooling.is_on)


def tooling_of(asked: ChatRequest) -> Tooling:
    """Tools and tool_choice, checked against each other."""
    tools = [_without_nulls(tool) for tool in asked.tools or ()]
    for index, tool in enumerate(tools):
        check_depth(tool["function"].get("parameters", {}), f"tools[{index}].function.parameters")
    choice = asked.tool_choice
    if not tools and choice not in (None, "none"):
        raise RequestError("`tool_choice` needs `tools`.", param="tool_choice")
    if isinstance(choice, NamedTool):
        return Tooling(tools, tools, msgspec.to_builtins(choice))
    if isinstance(choice, AllowedToolChoice):
        allowed = choice.allowed_tools
        names = {tool.function.name for tool in allowed.tools}
        known = {tool["function"]["name"] for tool in tools}
        for name in sorted(names - known):
            raise RequestError(
                f"`tool_choice` allows the function `{name}`, which is not in `tools`."
                + nearest(name, known),
                param="tool_choice",
                code="invalid_value",
            )
        some = [tool for tool in tools if tool["function"]["name"] in names]
        return Tooling(tools, some, allowed.mode)
    return Tooling(tools, tools, choice or "auto")


def _without_nulls(tool: Tool) -> JsonObject:
    plain: JsonObject = msgspec.to_builtins(tool)
    function = {key: value for key, value in plain["function"].items() if value is not None}
    return {**plain, "function": function}


def messages_of(messages: list[Message]) -> list[JsonObject]:
    """Messages as templates want them: nulls left out, refusals as text."""
    result = []
    for message in messages:
        plain: JsonObject = {
            key: value for key, value in msgspec.to_builtins(message).items() if value is not None
        }
        if isinstance(message.content, list):
            plain["content"] = [
                {"type": "text", "text": p.refusal if isinstance(p, RefusalPart) else p.text}
                for p in message.content
            ]
        if isinstance(message, AssistantMessage):
            refusal = plain.pop("refusal", None)
            if refusal is not None and message.content is None:
                plain["content"] = refusal
            plain.pop("annotations", None)
        result.append(plain)
    return result


def template_kwargs(asked: ChatRequest, model: ServedModel) -> JsonObject:
    """Further variables of the template."""
    kwargs = dict(asked.chat_template_kwargs or {})
    if reserved := _RESERVED_KWARGS & kwargs.keys():
        name = min(reserved)
        raise RequestError(
            f"`chat_template_kwargs` cannot set `{name}`.",
            param=f"chat_template_kwargs.{name}",
            code="invalid_value",
        )
    check_depth(kwargs, "chat_template_kwargs")
    return {**_effort(asked, model), **kwargs}


def _effort(asked: ChatRequest, model: ServedModel) -> JsonObject:
    """reasoning_effort as the template's own variable, if it has one that can express it."""
    effort = asked.reasoning_effort
    if effort is None:
        return {}
    source = model.template.source
    if "reasoning_effort" in source and effort != "none":
        return {"reasoning_effort": effort}
    if "enable_thinking" in source:
        return {"enable_thinking": effort != "none"}
    if effort == "none" and model.reasoning is None:
        return {}
    raise RequestError(
        f"`reasoning_effort` {effort!r} is not supported: the chat template of `{model.name}` has "
        "no variable for it.",
        param="reasoning_effort",
        code="unsupported_parameter",
    )


def grammar_of(
    asked: ChatRequest, model: ServedModel, tooling: Tooling, prompt: ChatPrompt
) -> Grammar | None:
    """What the output must follow; at most one field may say so."""
    opens = prompt.opens_reasoning
    if asked.guided_json is not None:
        check_depth(asked.guided_json, "guided_json")
    wanted: list[tuple[str, Grammar]] = []
    if asked.response_format is not None:
        plain = msgspec.to_builtins(asked.response_format)
        check_depth(plain, "response_format")
        grammar = model.response_grammar(plain, opens_reasoning=opens)
        if grammar is not None:
            wanted.append(("response_format", grammar))
    extension = extension_grammar(asked)
    if extension is not None:
        wanted.append((extension[0], model.after_reasoning(extension[1], opens)))
    if wanted and asked.ignore_eos:
        raise RequestError(
            f"`ignore_eos` cannot be combined with `{wanted[0][0]}`: the output ends where its "
            "form ends.",
            param="ignore_eos",
            code="invalid_value",
        )
    if len(wanted) > 1:
        raise RequestError(
            f"`{wanted[0][0]}` and `{wanted[1][0]}` both constrain the output: send one of them.",
            param=wanted[1][0],
            code="invalid_value",
        )
    if not tooling.is_on:
        return wanted[0][1] if wanted else None
    if wanted:
        raise RequestError(
            f"`{wanted[0][0]}` cannot be combined with tools that may be called: "
            'set `tool_choice` to "none", or leave one of them out.',
            param=wanted[0][0],
            code="unsupported_parameter",
        )
    return model.tool_grammar(
        tooling.callable_tools,
        tooling.choice,
        asked.parallel_tool_calls is not False,
        opens_reasoning=opens,
    )
