"""A model's chat template: messages to the prompt it was trained on, within limits.

The template is untrusted, so it is never compiled or run in this process: `renderer.py` does it
in a child with limits of CPU time, memory and output, started at first use and again after a
template broke a limit.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from fmedge.errors import ModelFileError, RequestError, UnavailableError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""What a model without a template of its own gets: the most common layout of turns."""

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 18


class TemplateLimits(Struct, frozen=True, kw_only=True):
    """What one render may take. cpu_s of the child's CPU time; wall_s until the parent gives up
    (a loaded machine may not run the child at once); memory_bytes of address space."""

    cpu_s: float = 2.0
    wall_s: float = 20.0
    memory_bytes: int = 1 << 30
    output_chars: int = 16 << 20


class ChatTemplate:
    """Renders one model's template. Threads may share it; renders happen one at a time.

    source None: the ChatML fallback. bos, eos: the tokens' text, as the template's variables.
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
    ) -> None:
        self.is_fallback = source is None
        self.source = CHATML if source is None else source
        self._special = {"bos_token": bos, "eos_token": eos}
        self._limits = limits or TemplateLimits()
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def supports_tools(self) -> bool:
        """True when the template reads the `tools` variable."""
        return "tools" in self.source

    def check(self) -> None:
        """Start the renderer and compile. ModelFileError if the template is not valid Jinja."""
        reply = self._exchange({})
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
        reply = self._exchange({"variables": variables, "max_chars": self._limits.output_chars})
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
        with self._lock:
            self._drop()

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

    def _exchange(self, request: dict[str, Any]) -> dict[str, str]:
        limits = self._limits
        if not self._lock.acquire(timeout=limits.wall_s):
            raise UnavailableError(
                "The chat template's renderer is busy; try again.",
                retry_after_s=1.0,
                code="template_busy",
            )
        try:
            for is_last_try in (False, True):
                is_new = self._child is None
                if self._child is None:
                    self._child = _Child(limits)
                    weakref.finalize(self, self._child.stop)
                body = {**request, "source": self.source} if is_new else request
                try:
                    return self._child.exchange(body, limits.wall_s)
                except _ChildEndedError as error:
                    self._drop()
                    if not error.was_idle or is_last_try:
                        return {"kind": "limit", "error": error.reason}
                except BaseException:
                    self._drop()  # an interrupted exchange leaves half a frame in the pipe
                    raise
            raise AssertionError("unreachable")
        finally:
            self._lock.release()

    def _drop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


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


class _ChildEndedError(Exception):
    """`was_idle`: it had ended before the request; a new child may do better."""

    def __init__(self, reason: str, *, was_idle: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_idle = was_idle


class _Child:
    """One renderer process and the pipes to it."""

    def __init__(self, limits: TemplateLimits) -> None:
        script = Path(__file__).with_name("renderer.py")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",  # its folder holds modules of ours, not of the script
                str(script),
                str(limits.cpu_s),
                str(limits.memory_bytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    def exchange(self, request: dict[str, Any], wall_s: float) -> dict[str, str]:
        if self._process.poll() is not None:
            raise _ChildEndedError("the renderer had ended", was_idle=True)
        deadline_s = time.monotonic() + wall_s
        body = json.dumps(request).encode()
        self._write(memoryview(_LENGTH.pack(len(body)) + body), deadline_s)
        received = bytearray()
        while (
            len(received) < _LENGTH.size
            or len(received) < _LENGTH.size + _LENGTH.unpack_from(received)[0]
        ):
            self._wait(self._stdout.fileno(), select.POLLIN, deadline_s)
            data = os.read(self._stdout.fileno(), _READ_BYTES)
            if not data:
                raise self._ended()
            received += data
        reply: dict[str, str] = json.loads(received[_LENGTH.size :])
        return reply

    def stop(self) -> None:
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        self._process.wait()

    def _write(self, data: memoryview, deadline_s: float) -> None:
        while data:
            self._wait(self._stdin.fileno(), select.POLLOUT, deadline_s)
            try:
                data = data[os.write(self._stdin.fileno(), data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def _wait(self, fd: int, events: int, deadline_s: float) -> None:
        poller = select.poll()
        poller.register(fd, events)
        if not poller.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
            raise _ChildEndedError("it took too long", was_idle=False)

    def _ended(self) -> _ChildEndedError:
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return _ChildEndedError("it took too much CPU time", was_idle=False)
        return _ChildEndedError(f"the renderer ended with status {status}", was_idle=False)
