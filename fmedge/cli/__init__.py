"""The `fmedge` command: picks a verb, imports that verb alone, maps errors to exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no plan holds what was asked,
130 interrupted. An error is one line on stderr, `fmedge: error: ...`; a traceback is a bug, and
shown only with FMEDGE_LOG_LEVEL=debug.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from fmedge.errors import ConfigError, FmedgeError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_PLAN = 3
EXIT_INTERRUPTED = 130

# verb -> (module, help); imported only when used. (A module called `list` would hide the builtin.)
VERBS = {
    "serve": ("serve", "serve models through an OpenAI-compatible API"),
    "run": ("run", "chat with a model in the terminal, or ask it once"),
    "pull": ("pull", "download a model from Hugging Face"),
    "list": ("listing", "list the models on this machine"),
    "rm": ("rm", "remove a downloaded model"),
    "ps": ("ps", "show what a running server serves"),
    "load": ("load", "have a running server load a model now"),
    "unload": ("unload", "have a running server unload a model"),
    "why": ("why", "show the numbers behind the decision on a request"),
    "workflows": ("workflows", "show how workflows keep their promise, and what would help"),
    "profile": ("profile", "measure how long a model's engine steps take here"),
    "simulate": ("simulate", "play a workload to a described cluster, in virtual time"),
    "bench": ("bench", "put load on an OpenAI-compatible server and measure it"),
    "plan": ("plan", "show which model would run where, how fast, and why"),
    "devices": ("devices", "show what models can run on here, and how fast it is"),
    "device-server": ("device_server", "offer this machine's devices to a fmedge elsewhere"),
    "config": ("config", "check a configuration"),
    "doctor": ("doctor", "look for what keeps fmedge from serving well here, and say what to do"),
    "completion": ("completion", "print a script that completes this command in a shell"),
    "version": ("version", "show versions"),
}


class Parser(argparse.ArgumentParser):
    """argparse with this command's manner of complaint."""

    def error(self, message: str) -> NoReturn:
        say_error(f"{message}; see {self.prog} --help")
        raise SystemExit(EXIT_USAGE)


def say_error(message: str) -> None:
    """The one line that a script reads."""
    line = " ".join(message.split("\n")) if message.count("\n") else message
    sys.stderr.write(f"{_priority()}fmedge: error: {line}\n")
    sys.stderr.flush()


def _priority() -> str:
    """What marks an error for systemd's journal, where stderr is that."""
    from fmedge.config.service import is_journal  # only where something failed

    return "<3>" if is_journal(2) else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(args)
    except SystemExit as stop:  # argparse's --help and errors
        return stop.code if isinstance(stop.code, int) else EXIT_OK
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except ConfigError as error:
        say_error(str(error))
        return EXIT_USAGE
    except FmedgeError as error:
        say_error(str(error))
        return _exit_code(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        say_error(f"{name}{error.strerror or error}")
        return EXIT_FAILED
    except Exception as error:  # the last resort: a bug must not look like a crash of the terminal
        from fmedge.config import load_config

        say_error(f"internal error: {type(error).__name__}: {error}")
        try:
            is_debug = load_config().server.log_level == "debug"
        except ConfigError:
            is_debug = False
        if is_debug:
            raise
        return EXIT_FAILED


def _exit_code(error: FmedgeError) -> int:
    from fmedge.sched.provision.plan import NoPlanError  # only where something failed

    return EXIT_NO_PLAN if isinstance(error, NoPlanError) else EXIT_FAILED


def _dispatch(args: list[str]) -> int:
    if args and args[0] in VERBS:
        verb, rest = args[0], args[1:]
        name, text = VERBS[verb]
        module = import_module(f"fmedge.cli.{name}")
        further = getattr(module, "VERBS", {})
        if rest and rest[0] in further:  # as in `fmedge bench diff`
            name, text = further[rest[0]]
            verb, rest = f"{verb} {rest[0]}", rest[1:]
            module = import_module(f"fmedge.cli.{name}")
        return int(module.run(_parser(verb, text, module).parse_intermixed_args(rest)))
    if args and not args[0].startswith("-"):
        from difflib import get_close_matches

        near = get_close_matches(args[0], VERBS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else "."
        say_error(f"there is no verb {args[0]!r}{hint} See fmedge --help")
        return EXIT_USAGE
    _top_parser().parse_args(args)
    _top_parser().print_help(sys.stderr)
    return EXIT_USAGE


def parsers() -> dict[str, Parser]:
    """Every verb's parser, as `bench` and `bench diff`: what the manual and completions are of."""
    found = {}
    for verb, (name, text) in VERBS.items():
        module = import_module(f"fmedge.cli.{name}")
        found[verb] = _parser(verb, text, module)
        for word, (further, what) in getattr(module, "VERBS", {}).items():
            words = f"{verb} {word}"
            found[words] = _parser(words, what, import_module(f"fmedge.cli.{further}"))
    return found


def _parser(verb: str, text: str, module: ModuleType) -> Parser:
    parser = Parser(prog=f"fmedge {verb}", description=_sentence(text))
    module.add_arguments(parser)
    return parser


def _top_parser() -> Parser:
    verbs = "\n".join(f"  {name:13} {text}" for name, (_, text) in VERBS.items())
    parser = Parser(
        prog="fmedge",
        usage="fmedge VERB [OPTION ...]",
        description=f"Serve foundation models from the hardware you have.\n\nverbs:\n{verbs}",
        epilog="fmedge VERB --help tells what a verb takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    return parser


def _version() -> str:
    from fmedge import __version__

    return f"fmedge {__version__}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
