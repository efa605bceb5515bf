"""`python packaging/man.py FILE` writes fmedge(1), the manual page, from the parsers themselves.

The rule: what the parsers know stands in them alone; here is only what they cannot know. A group of
options that several verbs take is told once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # of a checkout, installed or not

from fmedge import __version__, cli
from fmedge.cli.commands import Argument, Command, Group, commands

DESCRIPTION = """fmedge serves foundation models (GGUF files, on llama.cpp) from the hardware that a
workstation or a server has, behind an OpenAI-compatible API. It plans what runs where, promises
latencies and keeps them, and survives crashes of its backend."""
CONFIGURATION = """A setting is taken from its option, else from its environment variable (FMEDGE_
and its name in capitals: FMEDGE_PORT for \\-\\-port), else from the configuration file, else it is
the default that is shown in brackets below."""
ENVIRONMENT = {
    "FMEDGE_CONFIG": "The configuration file, where no --config names one.",
    "FMEDGE_*": "Any setting of the server, the engine or the client, as FMEDGE_PORT.",
    "FMEDGE_API_KEY": "The key that verbs which ask a server send.",
    "HF_HOME, HF_TOKEN": "Where downloaded models lie; who asks for them: Hugging Face's own.",
    "XDG_STATE_HOME": "Where fmedge keeps what it learned: $XDG_STATE_HOME/fmedge.",
    "XDG_CACHE_HOME": "Where compiled kernels are kept, if not beside the package.",
    "NUMBA_CACHE_DIR": "Another place for those.",
}
FILES = {
    "/etc/fmedge/fmedge.toml": "Configuration of the system's service.",
    "/etc/fmedge/environment": "Its environment, as NAME=VALUE lines.",
    "/var/lib/fmedge": "What it learned.",
    "/var/cache/fmedge": "Models that it downloaded, compiled kernels.",
    "~/.local/state/fmedge": "What was learned where somebody runs fmedge themselves.",
    "~/.cache/huggingface": "Models that they downloaded.",
}
EXIT_STATUS = {
    cli.EXIT_OK: "Done.",
    cli.EXIT_FAILED: "Failed, as one line on standard error tells.",
    cli.EXIT_USAGE: "Wrong usage or configuration.",
    cli.EXIT_NO_PLAN: "No plan holds what was asked for.",
    cli.EXIT_INTERRUPTED: "Interrupted.",
}
EXAMPLES = {
    'fmedge run "What is the capital of France?"': "Asks the model that is part of fmedge.",
    "fmedge serve --model hf:ORG/REPO:Q4_K_M --alias chat": "Serves a model, fetched if need be.",
    "fmedge plan --model ./big.gguf --explain": "Shows what would run where, and why.",
    "systemctl reload fmedge": "Has the system's service read its configuration again.",
}
_WRITTEN = {"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "|": "|\\:"}  # in this order
SEE_ALSO = "systemctl(1), systemd.unit(5), journalctl(1)"


def page(found: Sequence[Command]) -> str:
    """The whole page, as roff."""
    shared = _shared(found)
    return "\n".join(
        [
            f'.TH FMEDGE 1 "" "fmedge {__version__}" "User Commands"',
            ".nh",
            ".SH NAME",
            "fmedge \\- SLA\\-aware serving of foundation models",
            ".SH SYNOPSIS",
            ".B fmedge",
            ".I VERB",
            "[\\fIOPTION\\fR ...] [\\fIARGUMENT\\fR ...]",
            ".SH DESCRIPTION",
            DESCRIPTION,
            ".PP",
            CONFIGURATION,
            ".SH VERBS",
            *(line for command in found for line in _verb(command, shared)),
            *(line for group in shared for line in _shared_group(group, found)),
            ".SH ENVIRONMENT",
            *_terms(ENVIRONMENT),
            ".SH FILES",
            *_terms(FILES),
            ".SH EXIT STATUS",
            *_terms({str(code): text for code, text in EXIT_STATUS.items()}),
            ".SH EXAMPLES",
            *_terms(EXAMPLES),
            ".SH SEE ALSO",
            SEE_ALSO,
            "",
        ]
    )


def _shared(found: Sequence[Command]) -> list[Group]:
    """The titled groups that more than one verb takes; of each the one with the most options."""
    by_title: dict[str, list[Group]] = {}
    for command in found:
        for group in command.groups:
            by_title.setdefault(group.title, []).append(group)
    return [
        max(groups, key=lambda group: len(group.options))
        for title, groups in by_title.items()
        if title and len(groups) > 1
    ]


def _verb(command: Command, shared: Sequence[Group]) -> Iterator[str]:
    titles = {group.title: group for group in shared}
    yield f".SS fmedge {_plain(' '.join(command.words))}"
    usage = [f"\\fB{_plain(' '.join(['fmedge', *command.words]))}\\fR", "[\\fIOPTION\\fR ...]"]
    for argument in command.positionals:
        words = f"\\fI{_plain(argument.value)}\\fR" + " ..." * argument.may_repeat
        usage.append(f"[{words}]" if argument.is_optional else words)
    yield " ".join(usage)
    yield ".PP"
    yield _text(command.text)
    yield from (line for p in command.positionals if p.help for line in _argument(p))
    taken = []
    for group in command.groups:
        if group.title not in titles:
            options = [o for o in group.options if "--help" not in o.flags]
            yield from (line for option in options for line in _argument(option))
            continue
        lacking = set(_flags(titles[group.title])) - set(_flags(group))
        but = f" but for {', '.join(sorted(lacking))}" if lacking else ""
        taken.append(f"\\(lq{_plain(group.title.capitalize() + but)}\\(rq")
    if taken:
        yield ".PP"
        yield f"And the options under {', '.join(taken)} below."


def _shared_group(group: Group, found: Sequence[Command]) -> Iterator[str]:
    verbs = [" ".join(c.words) for c in found if group.title in [g.title for g in c.groups]]
    yield f".SH OPTIONS: {_plain(group.title.upper())}"
    yield _text(f"Of {', '.join(verbs)}.")
    yield from (line for option in group.options for line in _argument(option))


def _flags(group: Group) -> Iterator[str]:
    return (flag for option in group.options for flag in option.flags)


def _argument(argument: Argument) -> Iterator[str]:
    value = f"\\fI{_plain(argument.value)}\\fR"
    heads = [f"\\fB{_plain(flag)}\\fR" for flag in argument.flags] or [value]
    yield ".TP"
    yield ", ".join(heads) + (f" {value}" if argument.flags and argument.value else "")
    yield _text(argument.help) if argument.help else ".br"


def _terms(texts: dict[str, str]) -> Iterator[str]:
    for term, text in texts.items():
        yield from (".TP", f"\\fB{_plain(term)}\\fR", _text(text))


def _text(text: str) -> str:
    """A paragraph of a page: no line of it is taken for a request to roff."""
    lines = [_plain(line.strip()) for line in text.splitlines()]
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in lines)


def _plain(text: str) -> str:
    """Text that means itself; a line may end after a bar."""
    for character, written in _WRITTEN.items():
        text = text.replace(character, written)
    return text


def main() -> int:
    Path(sys.argv[1]).write_text(page(commands(cli.parsers())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
