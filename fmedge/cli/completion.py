"""`fmedge completion`: the command line as a script with which a shell completes it.

The rule: a script is whole and starts nothing: no Python runs while somebody types.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from fmedge.cli.commands import Command

HELP = """to complete in every new shell:
  bash  fmedge completion bash > ~/.local/share/bash-completion/completions/fmedge
  zsh   fmedge completion zsh > ~/.zfunc/_fmedge   (a folder of $fpath, before compinit)
  fish  fmedge completion fish > ~/.config/fish/completions/fmedge.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="for which shell")
    parser.epilog = HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(args: argparse.Namespace) -> int:
    sys.stdout.write(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion of everything that this version takes."""
    from fmedge import cli
    from fmedge.cli import completion_bash, completion_fish, completion_zsh
    from fmedge.cli.commands import commands

    makers: dict[str, Callable[[list[Command]], str]] = {
        "bash": completion_bash.script,
        "zsh": completion_zsh.script,
        "fish": completion_fish.script,
    }
    return makers[shell](commands(cli.parsers()))
