"""Tools made from words: their names say what they do, so that unknown ones can be read too."""

from __future__ import annotations

from dataclasses import replace

from training.conversation import Source
from training.families.tool_shapes import Param, Tool
from training.families.tool_values import fresh
from training.families.tool_words import (
    ATTRIBUTES,
    ENTITIES,
    FEATURES,
    KINDS_SENT,
    LISTS,
    MODES,
    RESULT_KINDS,
    RESULT_UNITS,
    SETTINGS,
    THING_KINDS,
    THINGS,
    VERBS,
)


def made_tools(source: Source, num: int) -> list[Tool]:
    """num made tools no two of which could be taken for each other."""
    tools: list[Tool] = []
    topics: set[str] = set()
    tried = 0
    while len(tools) < num and tried < 60:
        tried += 1
        base = tools[0] if tools and source.chance(0.5) else None
        tool = _like(base, source) if base else source.pick(_PATTERNS)(source)
        if tool.domain not in topics:
            topics.add(tool.domain)
            tools.append(tool)
    return [_told_apart(tool, tools) for tool in tools]


def _told_apart(tool: Tool, tools: list[Tool]) -> Tool:
    """The tool with only those questions that name what it is for, if another does the same."""
    pattern, *topic = tool.domain.split()
    if pattern not in ("get", "do", "set"):
        return tool
    if sum(other.domain.split()[:2] == [pattern, topic[0]] for other in tools) < 2:
        return tool
    return replace(
        tool,
        asks="|".join(ask for ask in tool.asks.split("|") if topic[-1] in ask),
        kept_asks="|".join(ask for ask in tool.kept_asks.split("|") if topic[-1] in ask),
        bare="|".join(ask for ask in tool.bare.split("|") if topic[-1] in ask),
        kept_bare="|".join(ask for ask in tool.kept_bare.split("|") if topic[-1] in ask),
    )


def _like(base: Tool, source: Source) -> Tool:
    """A tool that shares a word with another: "delete_file" beside "open_file"."""
    pattern, _, rest = base.domain.partition(" ")
    first, _, second = rest.partition(" ")
    if pattern == "get":
        return _getter(source, entity=second)
    if pattern == "do":
        return _doer(source, verb=first) if source.chance(0.4) else _doer(source, thing=second)
    if pattern in ("list", "count", "search"):
        return source.pick((_lister, _counter, _searcher))(source, first)
    return source.pick(_PATTERNS)(source)


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def _getter(source: Source, entity: str = "") -> Tool:
    attribute = fresh(source, ATTRIBUTES)
    name, kind = (
        next(pair for pair in ENTITIES if pair[0] == entity) if entity else source.pick(ENTITIES)
    )
    said = attribute.replace("_", " ")
    name_or_id = "id" if kind == "code" else "name"
    param = Param(f"{name}|{name}|{name}_name|{name_or_id}", kind, f"The {name}")
    asks = (
        f"What is the {said} of {{a}}?|{said} of {{a}}|Tell me the {said} of {{a}}.|Get the {said} "
        f"of the {name} {{a}}.|I need the {said} of {{a}}.|What is the {said} of the {name} {{a}}?"
        f"|Give me the {said} for {{a}}.|Look up the {said} of {{a}}.|Do you know the {said} of "
        f"{{a}}?|What {said} does {{a}} have?|Which {said} does the {name} {{a}} have?|Find out "
        f"the {said} of {{a}}.|Show me the {said} of {name} {{a}}.|{name} {{a}}: {said}?"
    )
    kept = (
        f"Find the {said} of {{a}}.|Can you tell me the {said} of {{a}}?|What is the {said} for "
        f"{name} {{a}}?|Which {said} does {{a}} have?|Please look up the {said} of {name} {{a}}."
    )
    result = f"{attribute}:{source.pick(RESULT_KINDS)}"
    if source.chance(0.15):
        result = f"{attribute}_{source.pick(RESULT_UNITS)}:int:1:999"
    if source.chance(0.2):
        result = f"{name}:{kind} {result}"
    return Tool(
        f"get {attribute} {name}",
        f"get_{attribute}|get_{name}_{attribute}|{name}_{attribute}|fetch_{attribute}|lookup_"
        f"{attribute}|find_{attribute}|read_{attribute}|get_{attribute}_of_{name}",
        f"Get the {said} of {_one(name)}|Returns the {said}|Look up {_one(name)}'s {said}|The "
        f"{said} of the {name}|Find out the {said} of one {name}",
        (param,),
        asks,
        kept,
        result,
        bare=f"What is the {said}?|Tell me the {said} of {_one(name)}.|I need the {said}.|{said}|"
        f"Get the {said}, please.|Look up the {said} of {_one(name)}.",
        kept_bare=f"Tell me the {said}.|I need the {said} of {_one(name)}.|Find the {said}.",
    )


def _doer(source: Source, verb: str = "", thing: str = "") -> Tool:
    verb, thing = verb or fresh(source, VERBS), thing or fresh(source, THINGS)
    kind, of = source.pick((*THING_KINDS, "int:1:9999")), f"Which {thing}"
    asks = (
        f"{verb.capitalize()} the {thing} {{a}}.|Please {verb} {thing} {{a}}.|{verb} {{a}}|Can you "
        f"{verb} {{a}}?|I want to {verb} the {thing} {{a}}.|{verb.capitalize()} {{a}} for me.|I "
        f"would like you to {verb} {thing} {{a}}.|{verb.capitalize()} {thing} {{a}}, please.|The "
        f"{thing} is {{a}}. {verb.capitalize()} it.|We have to {verb} {{a}}."
    )
    kept = (
        f"I would like you to {verb} {{a}}.|Can you {verb} the {thing} {{a}} for me?|We want to "
        f"{verb} the {thing} {{a}}.|Please {verb} {{a}}."
    )
    return Tool(
        f"do {verb} {thing}",
        f"{verb}_{thing}|{verb}_{thing}|{verb}_the_{thing}|{thing}_{verb}|{verb}_{thing}_now",
        f"{verb.capitalize()} {_one(thing)}|{verb.capitalize()} the given {thing}|"
        f"{verb.capitalize()} one {thing} by its name|Used to {verb} {_one(thing)}",
        (Param(f"{thing}|{thing}_id|{'name' if kind != 'code' else 'number'}|id", kind, of),),
        asks,
        kept,
        bare=f"{verb.capitalize()} {_one(thing)}.|Please {verb} {_one(thing)}.|I want to {verb} "
        f"{_one(thing)}.|{verb.capitalize()} {_one(thing)} for me.|Can you {verb} {_one(thing)}?",
        kept_bare=f"{verb.capitalize()} {_one(thing)}, please.|I would like you to {verb} "
        f"{_one(thing)}.",
    )


def _setter(source: Source) -> Tool:
    setting = fresh(source, SETTINGS)
    said = setting.replace("_", " ")
    kind = source.pick(("int:1:100", "int:1:999", "number:1:50"))
    value = Param(f"value|{setting}|level|new_value|amount", kind)
    if source.chance(0.4):
        thing = fresh(source, THINGS)
        return Tool(
            f"set {setting}",
            f"set_{setting}|set_{thing}_{setting}|change_{setting}|update_{setting}",
            f"Set the {said} of {_one(thing)}|Change {_one(thing)}'s {said}|New "
            f"{said} for {_one(thing)}",
            (Param(f"{thing}|{thing}_name|name", source.pick(THING_KINDS)), value),
            f"Set the {said} of {{a}} to {{b}}.|Change the {said} of the {thing} {{a}} to {{b}}.|"
            f"The {said} of {{a}} should be {{b}}.|{{a}}: {said} {{b}}|I want "
            f"{_one(said)} of {{b}} for"
            f" {{a}}.|Give the {thing} {{a}} "
            f"{_one(said)} of {{b}}.|Please set {{a}}'s {said} to {{b}}."
            f"|{said} {{b}} for {thing} {{a}}",
            f"Change the {said} of {{a}} to {{b}}.|Please set the {said} of {thing} {{a}} to {{b}}."
            f"|The {thing} {{a}} should have {_one(said)} of {{b}}.",
        )
    return Tool(
        f"set {setting}",
        f"set_{setting}|change_{setting}|update_{setting}|{setting}|adjust_{setting}",
        f"Set the {said}|Change the {said}|Sets a new {said}|Adjust the {said}",
        (value,),
        f"Set the {said} to {{a}}.|Change the {said} to {{a}}, please.|{said} {{a}}|The {said} "
        f"should be {{a}}.|I want "
        f"{_one(said)} of {{a}}.|Make the {said} {{a}}.|Can you set the {said} "
        f"to {{a}}?|Put the {said} at {{a}}.|New {said}: {{a}}",
        f"Can you change the {said} to {{a}}?|Please set the {said} to {{a}}.|I want the {said} at "
        f"{{a}}.",
    )


def _lister(source: Source, items: str = "") -> Tool:
    items = items or fresh(source, LISTS)
    return Tool(
        f"list {items}",
        f"list_{items}|get_{items}|show_{items}|get_all_{items}|all_{items}",
        f"List all {items}|Get the {items}|Shows all the {items}|Returns the names of the {items}",
        (),
        f"Show me all {items}.|List the {items}.|Which {items} are there?|Give me all {items}.|What"
        f" {items} do we have?|I want to see the {items}.|list {items}|Can you list all {items}?|"
        f"Show the {items}, please.|Which {items} do you have?",
        f"List all the {items}, please.|What {items} are there?|I want to see all {items}.|Can you "
        f"show me the {items}?",
        f"{items}:list:made_up",
    )


def _counter(source: Source, items: str = "") -> Tool:
    items = items or fresh(source, LISTS)
    return Tool(
        f"count {items}",
        f"count_{items}|number_of_{items}|get_{items}_count|how_many_{items}",
        f"Count the {items}|How many {items} there are|Returns the number of {items}",
        (),
        f"How many {items} are there?|Count the {items}.|Number of {items}?|How many {items} do we "
        f"have?|Tell me how many {items} there are.|What is the number of {items}?|count {items}|"
        f"Can you count the {items}?|How many {items} are there now?",
        f"Please count the {items}.|Tell me the number of {items}.|How many {items} do you have?",
        "count:int:0:500",
    )


def _searcher(source: Source, items: str = "") -> Tool:
    items = items or fresh(source, LISTS)
    return Tool(
        f"search {items}",
        f"search_{items}|find_{items}|query_{items}|{items}_search",
        f"Search the {items}|Find {items} by words|Full-text search in {items}",
        (
            Param("query|q|text|search|term|keyword", "topic"),
            Param("limit|max_results|count|num", "int:2:20"),
        ),
        f"Search for {items} about {{a}}.|Find {items} about {{a}}.|Which {items} are about {{a}}?|"
        f"Search the {items} for {{a}}.|Look for {items} with {{a}}.|Find {{b}} {items} about {{a}}"
        f'.|Find {items} matching "{{a}}".|Are there {items} about {{a}}?|Search {items}: {{a}}|'
        f"Give me at most {{b}} {items} about {{a}}.|Show me {{b}} {items} about {{a}}.",
        f"Look for {items} about {{a}}.|Find {{b}} {items} with {{a}}.|Search for {items} matching "
        f'"{{a}}".',
        "results:list:title",
    )


def _sender(source: Source) -> Tool:
    kind = fresh(source, KINDS_SENT)
    one = _one(kind)
    return Tool(
        f"send {kind}",
        f"send_{kind}|{kind}_to|deliver_{kind}|post_{kind}",
        f"Send {one} to a person|Sends somebody {one}|Deliver {one}",
        (Param("to|recipient|person|name", "name"), Param("city|to_city|destination", "city")),
        f"Send {one} to {{a}} in {{b}}.|Send {{a}} {one}.|{{a}} in {{b}} should get {one}.|Deliver "
        f"{one} to {{a}} in {{b}}.|I want to send {{a}} {one} to {{b}}.|Please send {one} to {{a}}."
        f"|{one.capitalize()} for {{a}}, please.|Can you send {one} to {{a}}, who lives in {{b}}?",
        f"Send {one} to {{a}}.|Can you send {{a}} in {{b}} {one}?|I want to send {one} to {{a}} in "
        f"{{b}}.",
    )


def _switcher(source: Source) -> Tool:
    feature = fresh(source, FEATURES)
    said = feature.replace("_", " ")
    return Tool(
        f"switch {feature}",
        f"set_{feature}|switch_{feature}|toggle_{feature}|{feature}",
        f"Turn {said} on or off|Switch {said}|Set whether {said} is on",
        (Param("on|enabled|is_on|active|state", "bool:on,off"),),
        f"Turn {{a}} {said}.|Turn {said} {{a}}.|Switch {said} {{a}}, please.|{said} {{a}}|I want "
        f"{said} {{a}}.|Put {said} {{a}}.|Can you turn {said} {{a}}?|Switch {{a}} {said}.",
        f"Can you switch {said} {{a}}?|Please turn {said} {{a}}.|Can you turn {{a}} {said}?",
    )


def _moder(source: Source) -> Tool:
    thing = fresh(source, THINGS)
    modes = ",".join(source.sample(MODES, source.pick((2, 3, 3, 4))))
    return Tool(
        f"mode {thing}",
        f"set_{thing}_mode|{thing}_mode|change_{thing}_mode|switch_{thing}_mode",
        f"Set the mode of the {thing}|Change the {thing}'s mode|Switch the mode",
        (Param(f"mode|value|{thing}_mode|to", f"enum:{modes}"),),
        f"Set the {thing} to {{a}}.|Switch the {thing} to {{a}} mode.|Put the {thing} in {{a}} "
        f"mode.|{thing} mode: {{a}}|The {thing} should be in {{a}} mode.|Change the {thing} mode "
        f"to {{a}}.|I want the {thing} in {{a}} mode.|Make the {thing} {{a}}.",
        f"Change the {thing} to {{a}} mode.|Please set the {thing} mode to {{a}}.|I want the "
        f"{thing} mode {{a}}.",
    )


def _maker(source: Source) -> Tool:
    thing, setting = fresh(source, THINGS), fresh(source, SETTINGS)
    said, one = setting.replace("_", " "), _one(thing)
    return Tool(
        f"do create {thing}",
        f"create_{thing}|add_{thing}|new_{thing}|make_{thing}|register_{thing}",
        f"Create {one}|Add a new {thing}|Makes {one} with a name and {_one(said)}",
        (
            Param(f"name|title|{thing}_name|{thing}", source.pick(THING_KINDS)),
            Param(f"{setting}|{setting}|value", source.pick(("int:1:100", "number:1:50"))),
        ),
        f"Create {one} called {{a}}.|Add {one} named {{a}} with {_one(said)} of {{b}}.|New "
        f"{thing}: {{a}}, {said} {{b}}|Make a new {thing} {{a}} with {said} {{b}}.|I need a new "
        f"{thing} called {{a}}.|Create the {thing} {{a}} with {_one(said)} of {{b}}.|Add the "
        f"{thing} {{a}}.|Please make {one} {{a}}, {said} {{b}}.|Register a new {thing} {{a}}.",
        f"Create a new {thing} named {{a}}.|Make {one} called {{a}} with {_one(said)} of {{b}}.|"
        f"Add a new {thing} {{a}} with {said} {{b}}.",
    )


_PATTERNS = (
    *(_getter, _getter, _getter, _doer, _doer, _doer, _setter, _setter),
    *(_lister, _counter, _searcher, _sender, _switcher, _moder, _maker, _maker),
)
