"""A conversation in the terminal: reads lines, streams answers, never loses what was said."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fmedge.cli.api import Api, ApiError
from fmedge.errors import ConfigError

try:
    import readline
except ImportError:  # not everywhere: the binary leaves it out, as its licence is the GPL
    readline = None  # type: ignore[assignment]

HISTORY_LINES = 1000
PROMPT, MORE = ">>> ", "... "
FENCE = '"""'
HELP = '''\
/clear         forget the conversation
/system TEXT   set the system prompt (and forget the conversation)
/exit          leave; so does Ctrl-D
/help          this text
"""            begins and ends a message of several lines
Ctrl-C         stops the answer; at the prompt, drops the line'''

# What a terminal would obey instead of showing: a model's text is not to be trusted with that.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Printer:
    """Writes an answer's text as it comes; reasoning is dimmed on a terminal, and only there."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._is_dim = False
        self._ends_line = True

    def write(self, text: str, *, is_reasoning: bool = False) -> None:
        if not text or (is_reasoning and not self._is_terminal):
            return
        if self._is_terminal:
            text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
            if is_reasoning != self._is_dim:
                text = (_DIM if is_reasoning else f"{_PLAIN}\n\n") + text
                self._is_dim = is_reasoning
        self._out.write(text)
        self._out.flush()
        self._ends_line = text.endswith("\n")

    def end(self) -> None:
        """Back to plain text at the start of a line."""
        if self._is_dim:
            self._out.write(_PLAIN)
            self._is_dim = False
        if not self._ends_line:
            self._out.write("\n")
            self._ends_line = True
        self._out.flush()


class Answer:
    """What one request gave; `finish_reason` is "" until it ended by itself."""

    def __init__(self) -> None:
        self.text = ""
        self.finish_reason = ""
        self.timings: dict[str, Any] = {}


def ask(api: Api, body: dict[str, Any], printer: Printer, answer: Answer) -> None:
    """Streams one answer to the printer; `answer` holds what has come so far at any time."""
    events = api.stream("/v1/chat/completions", body)
    with contextlib.closing(events):  # type: ignore[type-var]  # a generator
        for event in events:
            answer.timings = event.get("timings") or answer.timings
            for choice in event.get("choices", ()):
                delta = choice.get("delta") or {}
                printer.write(delta.get("reasoning_content") or "", is_reasoning=True)
                text = delta.get("content") or ""
                answer.text += text
                printer.write(text)
                answer.finish_reason = choice.get("finish_reason") or answer.finish_reason


def check_text(text: str, what: str) -> str:
    """The text, or a ConfigError where it came from bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} is not UTF-8 text (character {error.start + 1})") from None
    return text


class Chat:
    """The interactive loop over one model."""

    def __init__(self, api: Api, options: dict[str, Any], system: str, *, verbose: bool) -> None:
        self._api = api
        self._options = options
        self._system = system
        self._verbose = verbose
        self._messages: list[dict[str, str]] = []
        self._printer = Printer(sys.stdout)

    def run(self, history: Path) -> int:
        """Until /exit or Ctrl-D; the exit code."""
        with _history(history):
            sys.stderr.write("Type a message; /help lists commands, /exit or Ctrl-D leaves.\n")
            for message in self._inputs():
                if message.startswith("/"):
                    if not self._command(message):
                        return 0
                elif message.strip():
                    self._say(message)
        return 0

    def _inputs(self) -> Iterator[str]:
        while True:
            try:
                line = input(PROMPT)
                if line.lstrip().startswith(FENCE):
                    line = self._rest_of_fence(line.lstrip()[len(FENCE) :])
                check_text(line, "that")
            except (ConfigError, UnicodeDecodeError):
                sys.stderr.write("That is not UTF-8 text: it was not sent.\n")
                continue
            except EOFError:
                sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                continue
            yield line

    def _rest_of_fence(self, first: str) -> str:
        lines = [first]
        while FENCE not in lines[-1]:
            lines.append(input(MORE))
        lines[-1] = lines[-1].partition(FENCE)[0]
        return "\n".join(lines).strip("\n")

    def _command(self, line: str) -> bool:
        """False when the conversation is to end."""
        name, _, rest = line.partition(" ")
        match name:
            case "/exit" | "/quit" | "/bye":
                return False
            case "/clear":
                self._messages.clear()
                sys.stderr.write("The conversation is forgotten.\n")
            case "/system":
                self._system = rest.strip()
                self._messages.clear()
                sys.stderr.write("The system prompt is set; the conversation starts anew.\n")
            case "/help" | "/?":
                sys.stderr.write(HELP + "\n")
            case _:
                sys.stderr.write(f"{name} is not a command; /help lists them.\n")
        return True

    def _say(self, message: str) -> None:
        system = [{"role": "system", "content": self._system}] if self._system else []
        messages = [*self._messages, {"role": "user", "content": message}]
        answer = Answer()
        body = {**self._options, "messages": [*system, *messages], "stream": True}
        try:
            ask(self._api, body, self._printer, answer)
        except KeyboardInterrupt:
            self._printer.end()
            sys.stderr.write("(stopped)\n")
        except ApiError as error:
            self._printer.end()
            sys.stderr.write(f"fmedge: error: {error}\n")
            if error.code == "context_length_exceeded":
                sys.stderr.write("/clear forgets the conversation, which makes room.\n")
            if not answer.text:
                return  # as if it had not been said
        self._printer.end()
        if answer.finish_reason == "length":
            sys.stderr.write("(the answer reached its longest length)\n")
        if self._verbose:
            sys.stderr.write(speed(answer))
        self._messages = [*messages, {"role": "assistant", "content": answer.text}]


def speed(answer: Answer) -> str:
    """A line about the server's own timings, or nothing where it gave none."""
    timings = answer.timings
    if not timings.get("predicted_n"):
        return ""
    rates = [timings.get(f"{kind}_per_second") or 0.0 for kind in ("prompt", "predicted")]
    return (
        f"prompt: {timings.get('prompt_n', 0)} tokens at {rates[0]:.0f}/s; "
        f"answer: {timings['predicted_n']} tokens at {rates[1]:.1f}/s\n"
    )


@contextlib.contextmanager
def _history(file: Path) -> Iterator[None]:
    """Lines of earlier conversations; a history that cannot be kept is no reason to stop."""
    if readline is None:
        yield
        return
    readline.set_history_length(HISTORY_LINES)
    readline.set_auto_history(True)
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            readline.write_history_file(file)
