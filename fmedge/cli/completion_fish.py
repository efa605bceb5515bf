"""The completion for fish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fmedge.cli.commands import Argument, Command

_START = """\
# fish completion of fmedge, made by: fmedge completion fish

function __fmedge_command --description 'are these the words of the command so far?'
    set -l words (commandline -opc)
    switch (count $argv)
        case 0
            test (count $words) -eq 1
        case 1 # the start of a longer verb is another one
            test "$words[2]" = $argv[1]; and not contains -- "$words[2..3]" $__fmedge_longer
        case 2
            test "$words[2..3]" = "$argv"
    end
end
"""


def script(commands: Sequence[Command]) -> str:
    longer = " ".join(_quoted(" ".join(c.words)) for c in commands if len(c.words) == 2)
    return "\n".join([_START, f"set -g __fmedge_longer {longer}", *_lines(commands), ""])


def _lines(commands: Sequence[Command]) -> Iterator[str]:
    yield "complete -c fmedge -f"
    yield "complete -c fmedge -n __fmedge_command -s h -l help -d 'show help'"
    yield "complete -c fmedge -n __fmedge_command -l version -d 'show the version'"
    for command in commands:
        *first, last = command.words
        when = _quoted(" ".join(["__fmedge_command", *first]))
        yield f"complete -c fmedge -n {when} -a {last} -d {_quoted(command.text.rstrip('.'))}"
    for command in commands:
        start = f"complete -c fmedge -n {_quoted(' '.join(['__fmedge_command', *command.words]))}"
        for option in command.options:
            yield f"{start} {' '.join(_flags(option))} -d {_quoted(option.help)}{_values(option)}"
        if any(p.is_file for p in command.positionals):
            yield f"{start} -F"
        for positional in command.positionals:
            if positional.words:
                yield f"{start} -a {_quoted(' '.join(positional.words))}"


def _flags(option: Argument) -> Iterator[str]:
    for flag in option.flags:
        yield f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


def _values(option: Argument) -> str:
    if not option.value:
        return ""
    if option.words:
        return f" -x -a {_quoted(' '.join(option.words))}"
    if option.is_folder:
        return " -x -a '(__fish_complete_directories)'"
    return " -r -F" if option.is_file else " -x"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
