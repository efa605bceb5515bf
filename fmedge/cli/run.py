"""`fmedge run`: a chat with a model, or one answer; by a running server where one serves it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from fmedge.cli.api import Api, ApiError
from fmedge.cli.chat import Answer, Chat, Printer, ask, check_text, speed
from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.cli.private_server import PrivateServer
from fmedge.cli.ps import server_url
from fmedge.cli.pull import fetch_missing
from fmedge.cli.run_model import HELP, choose, file_of
from fmedge.config import EMBEDDED, Config, history_file, settings
from fmedge.errors import ConfigError

LOOK_TIMEOUT_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?",
        help="NAME, PATH or hf:ORG/REPO[:QUANT|/FILE] [the first configured one, else embedded]",
    )  # fmt: skip
    parser.add_argument(
        "prompt",
        nargs="*",
        default=[],
        help="ask this once; else from stdin, else talk in the terminal",
    )
    parser.add_argument(
        "--model", dest="named", metavar="MODEL",
        help="the model, so that all arguments are the prompt",
    )  # fmt: skip
    parser.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    parser.add_argument("--temperature", type=float, metavar="T", help="[the server's]")
    parser.add_argument("--top-p", type=float, metavar="P", help="[the server's]")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="[the server's]")
    parser.add_argument("--seed", type=int, metavar="N", help="[random]")
    parser.add_argument("--verbose", action="store_true", help="show speeds after each answer")
    add_config_file(parser)
    add_settings(parser, "client", "defaults")
    parser.epilog = HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "client", "defaults")
    words = [] if args.model is None else [args.model, *args.prompt]
    api, served = _find_server(config)
    model, words = choose(args.named, words, config, served, url=config.client.url)
    check_text(args.system, "the system prompt")
    prompt = _prompt(words)
    with contextlib.ExitStack() as stack:
        if api is not None and model in served:
            name = model
            _tell_of_demonstration(config, name, is_one=EMBEDDED in (name, served[name]))
        else:
            file = file_of(model, config)
            fetch_missing([file])
            _tell_of_demonstration(config, model, is_one=file == EMBEDDED)
            if sys.stderr.isatty():
                sys.stderr.write("loading the model ...")
                sys.stderr.flush()
            try:
                private = stack.enter_context(PrivateServer(_serve_args(args, model)))
            finally:
                if sys.stderr.isatty():
                    sys.stderr.write("\r\x1b[K")
                    sys.stderr.flush()
            api = Api(private.url)
            name = next(iter(_names(api)))
        options = _options(args, name)
        if prompt is None:
            chat = Chat(api, options, args.system, verbose=args.verbose)
            return chat.run(history_file())
        return _once(api, options, args, prompt)


def _once(api: Api, options: dict[str, Any], args: argparse.Namespace, prompt: str) -> int:
    system = [{"role": "system", "content": args.system}] if args.system else []
    messages = [*system, {"role": "user", "content": prompt}]
    printer, answer = Printer(sys.stdout), Answer()
    try:
        ask(api, {**options, "messages": messages, "stream": True}, printer, answer)
    finally:
        printer.end()
    if args.verbose:
        sys.stderr.write(speed(answer))
    return 0


def _tell_of_demonstration(config: Config, name: str, *, is_one: bool) -> None:
    """The first line of all, but for those who want warnings alone."""
    if is_one and config.server.log_level in ("debug", "info"):
        from fmedge.models.embedded import demonstration

        sys.stderr.write(demonstration(name, "fmedge run"))
        sys.stderr.flush()


def _prompt(words: Sequence[str]) -> str | None:
    """The one question; None to talk. Both an argument and piped text: the text follows."""
    parts = [check_text(" ".join(words), "the prompt")] if words else []
    if not sys.stdin.isatty():
        try:
            parts.append(check_text(sys.stdin.read(), "standard input"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"standard input is not UTF-8 text: {error.reason}") from error
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt and (words or not sys.stdin.isatty()):
        raise ConfigError("nothing to ask: the prompt is empty")
    return prompt or None


def _find_server(config: Config) -> tuple[Api | None, dict[str, str]]:
    """The server that was named, else one at the usual place; and what it serves, by `_names`."""
    if config.client.url:
        api = Api(config.client.url, config.client.api_key)
        return api, _names(api)
    server = config.server
    if server.tls_cert or not (server.unix_socket or server.port):
        return None, {}
    api = Api(server_url(config), config.client.api_key, connect_timeout_s=LOOK_TIMEOUT_S)
    try:
        return api, _names(api)
    except ApiError:
        return None, {}


def _names(api: Api) -> dict[str, str]:
    """The model's own name by each of its names. A path that the user gives is none of them: it
    may be another file of the same name."""
    status, body = api.get("/v1/models")
    if status != 200 or not isinstance(body, dict):
        raise ApiError(f"{api.url}/v1/models: HTTP {status}", status=status)
    names: dict[str, str] = {}
    for entry in body.get("data", ()):
        name = str(entry.get("id", ""))
        own = str(entry.get("root") or name)
        names |= dict.fromkeys([name, *map(str, entry.get("aliases") or ())], own)
    return names


def _serve_args(args: argparse.Namespace, model: str) -> list[str]:
    passed = ["--model", model, "--log-level", "warning", "--drain-timeout-s", "0"]
    passed += ["--api-key-file=", "--tls-cert=", "--tls-key="]  # the socket's folder is the lock
    if args.config:
        passed += ["--config", args.config]
    for setting in settings("defaults"):
        value = getattr(args, setting.key, None)
        if value is None:
            continue
        if setting.is_bool:
            passed.append(setting.flag if value else setting.flag.replace("--", "--no-", 1))
        else:
            passed.append(f"{setting.flag}={value}")
    return passed


def _options(args: argparse.Namespace, model: str) -> dict[str, Any]:
    options: dict[str, Any] = {"model": model}
    for name in ("temperature", "top_p", "max_tokens", "seed"):
        if (value := getattr(args, name)) is not None:
            options[name] = value
    return options
