"""What the command line takes, as plain facts: of it the manual page and the completions are made.

The rule: everything is read from the parsers that parse; a metavar says what a value is. Words in
lower case with bars between are all that is allowed; FILE, PATH or MODEL may name a file, FOLDER a
folder.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

_WORDS = re.compile(r"[a-z0-9_]+(\|[a-z0-9_]+)+")
_CAPITALS = re.compile(r"[A-Z]+")
_FILES = {"FILE", "PATH", "MODEL", "RUN", "BASE", "NEW"}


class Argument(Struct, frozen=True):
    """An option, or (without flags) a positional argument."""

    flags: tuple[str, ...]
    value: str
    """What stands for its value in help; empty where it takes none."""
    help: str
    words: tuple[str, ...] = ()
    """All the values that it may have; () where they are free."""
    may_repeat: bool = False
    is_optional: bool = True
    """An option always is; a positional argument where it may be left out."""

    @property
    def is_file(self) -> bool:
        return not _FILES.isdisjoint(_CAPITALS.findall(self.value))

    @property
    def is_folder(self) -> bool:
        return self.value == "FOLDER"


class Group(Struct, frozen=True):
    title: str
    """Empty for what belongs to the verb alone."""
    options: tuple[Argument, ...]


class Command(Struct, frozen=True):
    words: tuple[str, ...]
    """The verb, as ("bench", "diff")."""
    text: str
    groups: tuple[Group, ...]
    positionals: tuple[Argument, ...]
    following: tuple[str, ...] = ()
    """Second words of further verbs."""

    @property
    def options(self) -> Iterator[Argument]:
        return (option for group in self.groups for option in group.options)


def commands(parsers: Mapping[str, argparse.ArgumentParser]) -> list[Command]:
    """The facts of `fmedge.cli.parsers()`."""
    return [_command(verb, parser, parsers) for verb, parser in parsers.items()]


def _command(
    verb: str, parser: argparse.ArgumentParser, all_of_them: Mapping[str, argparse.ArgumentParser]
) -> Command:
    groups, positionals = [], []
    formatter = argparse.HelpFormatter(parser.prog)
    for group in parser._action_groups:
        shown = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
        positionals += [_argument(a, formatter) for a in shown if not a.option_strings]
        options = tuple(_argument(a, formatter) for a in shown if a.option_strings)
        if options:
            is_own = group in parser._action_groups[:2]  # "positional arguments" and "options"
            groups.append(Group("" if is_own else group.title or "", options))
    starts = [words.split() for words in all_of_them if words.startswith(f"{verb} ")]
    return Command(
        words=tuple(verb.split()),
        text=parser.description or "",
        groups=tuple(groups),
        positionals=tuple(positionals),
        following=tuple(words[-1] for words in starts),
    )


def _argument(action: argparse.Action, formatter: argparse.HelpFormatter) -> Argument:
    value = ""
    if action.nargs != 0:
        metavar = action.metavar or (action.dest.upper() if not action.choices else "")
        value = str(metavar) or "|".join(map(str, action.choices or ()))
    words = tuple(map(str, action.choices or ()))
    if not words and _WORDS.fullmatch(value):
        words = tuple(value.split("|"))
    return Argument(
        flags=tuple(action.option_strings),
        value=value,
        help=formatter._expand_help(action) if action.help else "",
        words=words,
        may_repeat=action.nargs in ("*", "+"),
        is_optional=bool(action.option_strings) or action.nargs in ("?", "*"),
    )
