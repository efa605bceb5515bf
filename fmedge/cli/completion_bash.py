"""The completion for bash. It needs nothing of the bash-completion package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fmedge.cli.commands import Argument, Command

_START = """\
# bash completion of fmedge, made by: fmedge completion bash

_fmedge() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command=${COMP_WORDS[1]} words='' values=''
    # readline takes --flag=value apart at the equals sign
    if [[ $current == = ]]; then
        current=''
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
"""
_END = """\
    esac
    case $values in
        '') ;;
        files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        folders) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
        free) return ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current"); return ;;
    esac
    if [[ $current == -* || $words != *files* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${words/files/}" -- "$current")
        return
    fi
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$current"; compgen -W "${words/files/}" -- "$current")
}

complete -F _fmedge fmedge
"""


def script(commands: Sequence[Command]) -> str:
    return "\n".join([_START.rstrip("\n"), *_body(commands), _END])


def _body(commands: Sequence[Command]) -> Iterator[str]:
    verbs = " ".join(c.words[0] for c in commands if len(c.words) == 1)
    yield f"        words='{verbs} --help --version'"
    yield '        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")'
    yield "        return"
    yield "    fi"
    further = [c for c in commands if len(c.words) == 2]
    for verb in dict.fromkeys(c.words[0] for c in further):
        seconds = "|".join(c.words[1] for c in further if c.words[0] == verb)
        yield f"    if [[ $command == {verb} && COMP_CWORD -gt 2 ]]; then"
        yield "        case ${COMP_WORDS[2]} in"
        yield f'            {seconds}) command+=" ${{COMP_WORDS[2]}}" ;;'
        yield "        esac"
        yield "    fi"
    yield "    case $command in"
    for command in commands:
        yield from _case(command)


def _case(command: Command) -> Iterator[str]:
    yield f"    '{' '.join(command.words)}')"
    by_values: dict[str, list[str]] = {}
    for option in command.options:
        if option.value:
            by_values.setdefault(_values(option), []).extend(option.flags)
    if by_values:
        yield "        case $before in"
        for values, flags in by_values.items():
            yield f"            {'|'.join(flags)}) values='{values}' ;;"
        yield "        esac"
    words = [*command.following, *(w for p in command.positionals for w in p.words)]
    words += [flag for option in command.options for flag in option.flags]
    words += ["files"] * any(p.is_file for p in command.positionals)
    yield f"        words='{' '.join(words)}'"
    yield "        ;;"


def _values(option: Argument) -> str:
    if option.words:
        return " ".join(option.words)
    return "files" if option.is_file else "folders" if option.is_folder else "free"
