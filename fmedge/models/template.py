"""A model's chat template: messages to the prompt it was trained on, within limits.

The template is untrusted, so it is never compiled or run in this process, but in a sandboxed
child with limits of CPU time, memory and output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from fmedge.errors import ModelFileError, RequestError
from fmedge.models.child import Sandbox

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""What a model without a template of its own gets: the most common layout of turns."""


class TemplateLimits(Struct, frozen=True, kw_only=True):
    """What one render may take. cpu_s of the child's CPU time; wall_s until the parent gives up
    (a loaded machine may not run the child at once); memory_bytes of address space."""

    cpu_s: float = 2.0
    wall_s: float = 20.0
    memory_bytes: int = 1 << 30
    output_chars: int = 16 << 20


def renderer(limits: TemplateLimits | None = None) -> Sandbox:
    """Where a template is rendered. To be started early, and given to its ChatTemplate."""
    limits = limits or TemplateLimits()
    return Sandbox(cpu_s=limits.cpu_s, wall_s=limits.wall_s, memory_bytes=limits.memory_bytes)


class ChatTemplate:
    """Renders one model's template. Threads may share it; renders happen one at a time.

    source None: the ChatML fallback. bos, eos: the tokens' text, as the template's variables.
    sandbox: of `renderer`, made with the same limits; this one's from now on.
    A render of an ordinary conversation takes a fraction of a millisecond; a hostile template
    can make it last `limits.wall_s`, so a server calls it in a thread.
    """

    def __init__(
        self,
        source: str | None,
        bos: str = "",
        eos: str = "",
        *,
        limits: TemplateLimits | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.source = CHATML if source is None else source
        self._special = {"bos_token": bos, "eos_token": eos}
        self._limits = limits or TemplateLimits()
        self._sandbox = sandbox or renderer(self._limits)

    @property
    def supports_tools(self) -> bool:
        """True when the template reads the `tools` variable."""
        return "tools" in self.source

    def check(self) -> None:
        """Start the renderer and compile. ModelFileError if the template is not valid Jinja."""
        reply = self._ask({})
        if "error" in reply:
            raise ModelFileError(
                f"The model's chat template is broken: {reply['error']}. "
                "Serve the model with another template."
            )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        """The prompt's text. messages and tools as in OpenAI's API; kwargs are further variables
        of the template (`enable_thinking`, `documents`, ...).

        RequestError with what the template complained about, or the limit it broke.
        """
        variables: dict[str, Any] = {
            "documents": None,
            **self._special,
            **kwargs,
            "messages": [self._message(message) for message in messages],
            "tools": list(tools) if tools else None,
            "add_generation_prompt": add_generation_prompt,
        }
        reply = self._ask({"variables": variables, "max_chars": self._limits.output_chars})
        if "error" not in reply:
            return reply["text"]
        kind, reason = reply["kind"], reply["error"]
        if kind == "complaint":
            message = f"The model's chat template refused these messages: {reason}"
        elif kind == "limit":
            message = f"The model's chat template was stopped: {reason}."
        else:
            message = f"The model's chat template cannot render these messages: {reason}"
        raise RequestError(message, param="messages", code=f"chat_template_{kind}")

    def close(self) -> None:
        """End the renderer; a later render would start a new one."""
        self._sandbox.close()

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One message as templates expect it: text content, tool arguments as objects."""
        result = dict(message)
        content = result.get("content")
        if content is None:
            result["content"] = ""
        elif isinstance(content, list) and all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
        ):
            result["content"] = "\n".join(part["text"] for part in content)
        if result.get("role") == "developer" and "developer" not in self.source:
            result["role"] = "system"
        if result.get("tool_calls"):
            result["tool_calls"] = [_tool_call(call) for call in result["tool_calls"]]
        return result

    def _ask(self, request: dict[str, Any]) -> dict[str, str]:
        return self._sandbox.ask(request, opening={"source": self.source})


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(call)
    function = result.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            return result
        result["function"] = {**function, "arguments": arguments}
    return result
