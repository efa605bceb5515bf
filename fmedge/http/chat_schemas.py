"""What chat bodies are made of: messages, tools, output formats. As strict as the bodies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
ShortText = Annotated[str, Meta(max_length=512)]
JsonObject = dict[str, Any]


class TextPart(
    Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Text content."""

    text: str
    prompt_cache_breakpoint: None = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True, frozen=True):
    """A refusal that the assistant gave earlier; shown to the model as its text."""

    refusal: str


class FunctionCall(Struct, forbid_unknown_fields=True, frozen=True):
    """What was called: arguments as a JSON text."""

    name: Annotated[str, Meta(max_length=64)]
    arguments: str


class ToolCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True, kw_only=True):
    """A call that the assistant made."""

    id: Annotated[str, Meta(max_length=256)]
    function: FunctionCall
    index: Annotated[int | None, Meta(description="As streamed deltas have it; unused.")] = None


class _Message(Struct, tag_field="role", forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: ShortText | None = None


class SystemMessage(_Message, tag="system", frozen=True):
    """Instructions."""

    content: str | list[TextPart]


class DeveloperMessage(_Message, tag="developer", frozen=True):
    """Instructions; templates see the role `system`."""

    content: str | list[TextPart]


class UserMessage(_Message, tag="user", frozen=True):
    """What a user said. Text only."""

    content: str | list[TextPart]


class AssistantMessage(_Message, tag="assistant", frozen=True):
    """What the model said. Fields that responses carry as null may be sent back."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: None = None
    audio: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None


class ToolMessage(_Message, tag="tool", frozen=True):
    """What a tool answered to the call of that id."""

    tool_call_id: Annotated[str, Meta(max_length=256)]
    content: str | list[TextPart]


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is a JSON schema, always enforced."""

    name: Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True, frozen=True):
    """Only function tools; custom tools are refused."""

    function: FunctionDefinition


class FunctionName(Struct, forbid_unknown_fields=True, frozen=True):
    """Which function."""

    name: Name


class NamedTool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True, frozen=True):
    """The model must call this function."""

    function: FunctionName


class AllowedTools(Struct, forbid_unknown_fields=True, frozen=True):
    """A subset of `tools`."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=128)]


class AllowedToolChoice(
    Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True, frozen=True
):
    """The model sees every tool's name taken from this subset only."""

    allowed_tools: AllowedTools


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True):
    """Free text."""


class JsonObjectFormat(
    Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True, frozen=True
):
    """Any JSON object; `schema` (llama-server's extension) narrows it."""

    schema: JsonObject | None = None


class JsonSchema(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A named JSON schema. It is enforced whether or not `strict` is set."""

    name: Name
    description: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


class JsonSchemaFormat(
    Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True, frozen=True
):
    """JSON that follows a schema."""

    json_schema: JsonSchema
