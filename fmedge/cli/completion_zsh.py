"""The completion for zsh: as a function of $fpath, or sourced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fmedge.cli.commands import Argument, Command

_END = """\

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _fmedge "$@"
else
    compdef _fmedge fmedge
fi
"""


def script(commands: Sequence[Command]) -> str:
    head = ["#compdef fmedge", "# zsh completion of fmedge, made by: fmedge completion zsh", ""]
    return "\n".join([*head, *_functions(commands), _END])


def _functions(commands: Sequence[Command]) -> Iterator[str]:
    for command in commands:
        yield from _function(command)
    yield "_fmedge() {"
    yield "    local -a verbs=("
    for command in commands:
        if len(command.words) == 1:
            yield f"        {_described(command)}"
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield "        _describe -t commands verb verbs"
    yield "        _arguments '(- *)'{-h,--help}'[show help]' '(- *)--version[show the version]'"
    yield "        return"
    yield "    fi"
    yield "    shift words"
    yield "    (( CURRENT-- ))"
    yield '    (( $+functions[_fmedge-$words[1]] )) && "_fmedge-$words[1]"'
    yield "}"


def _function(command: Command) -> Iterator[str]:
    yield f"{_name(command.words)}() {{"
    if command.following:
        yield f"    if (( CURRENT > 2 && $+functions[{_name(command.words)}-$words[2]] )); then"
        yield "        shift words"
        yield "        (( CURRENT-- ))"
        yield f'        "{_name(command.words)}-$words[1]"'
        yield "        return"
        yield "    fi"
    specs = [spec for option in command.options for spec in _specs(option)]
    if command.following:
        specs.append(f"1:verb:({' '.join(command.following)})")
    for number, positional in enumerate(command.positionals, 1):
        place = "*" if positional.may_repeat else str(number)
        optional = "" if positional.may_repeat else ":"
        specs.append(f"{place}:{optional}{_plain(positional.value.lower())}:{_action(positional)}")
    yield " \\\n        ".join(["    _arguments", *map(_quoted, specs)])
    yield "}"
    yield ""


def _specs(option: Argument) -> Iterator[str]:
    """An option may come again: some gather, and of the others the last one holds."""
    for flag in option.flags:
        text = _plain(option.help).replace("[", "\\[").replace("]", "\\]")
        if not option.value:
            yield f"*{flag}[{text}]"
        else:
            takes = "=" if flag.startswith("--") else "+"
            yield f"*{flag}{takes}[{text}]:{_plain(option.value)}:{_action(option)}"


def _action(argument: Argument) -> str:
    if argument.words:
        return f"({' '.join(argument.words)})"
    return "_files" if argument.is_file else "_files -/" if argument.is_folder else ""


def _name(words: Sequence[str]) -> str:
    return "-".join(["_fmedge", *words])


def _described(command: Command) -> str:
    return _quoted(f"{command.words[0]}:{_plain(command.text.rstrip('.'))}")


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
