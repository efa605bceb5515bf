"""Tools made from words: their names say what they do, so that unknown ones can be read too."""

from __future__ import annotations

from dataclasses import replace

from training.conversation import Source
from training.families.tool_shapes import Param, Tool
from training.families.tool_values import fresh, words

_ATTRIBUTES = words(
    "price weight height length size age colour owner author address status balance salary rating "
    "score population capacity version licence manager deadline duration distance temperature "
    "speed budget discount tax stock location language category phone email birthday nickname team "
    "department title rank level cost fee rent value width depth area volume pressure voltage "
    "power memory latency uptime load traffic revenue profit margin share growth risk grade "
    "average total summary description history schedule route gate platform seat room floor "
    "building warranty model brand material flavour calories ingredients recipe menu opening_hours "
    "closing_time start_date end_date delivery_date due_date birth_date postcode country "
    "mayor website currency altitude depth_limit exchange_rate interest_rate tax_rate "
    "heart_rate blood_type dosage diagnosis credit_limit account_number order_count error_rate "
    "battery_level signal_strength fuel_level mileage licence_plate serial_number"
)
_ENTITIES = (
    ("city", "city"),
    ("country", "country"),
    ("person", "name"),
    ("customer", "name"),
    ("employee", "name"),
    ("student", "name"),
    ("patient", "name"),
    ("user", "name"),
    ("product", "product"),
    ("book", "title"),
    ("film", "title"),
    ("project", "title"),
    ("song", "title"),
    ("order", "code"),
    ("flight", "code"),
    ("invoice", "code"),
    ("ticket", "code"),
    ("train", "code"),
    ("account", "code"),
    ("company", "made_up"),
    ("device", "made_up"),
    ("ship", "made_up"),
    ("animal", "made_up"),
    ("file", "file"),
    ("server", "host"),
    ("machine", "host"),
    ("website", "url"),
)
_VERBS = words(
    "open close start stop delete create restart archive publish approve reject cancel lock "
    "unlock print download upload rename copy check verify test deploy update install remove "
    "enable disable activate pause resume finish submit review export import share hide show "
    "refresh repair clean paint ship return reserve release block unblock invite follow mute "
    "rotate compress encrypt backup restore validate translate summarise scan sign stamp"
)
_THINGS = words(
    "account file server project order invoice ticket report page post user group channel device "
    "machine camera door gate window engine pump robot printer lamp database table backup branch "
    "build job task pipeline container cluster service website form survey contract payment "
    "booking flight package parcel letter photo video album playlist song lesson course exam "
    "student patient room seat car bus train ship drone sensor alarm valve oven folder"
)
_THING_KINDS = ("made_up", "code", "host", "title", "made_up", "code")
_SETTINGS = words(
    "brightness contrast speed limit timeout price budget target threshold interval delay "
    "frequency pressure height width angle zoom gain power quota priority_level age weight score "
    "fan_speed font_size tab_size batch_size page_size retry_count humidity temperature_limit "
    "max_users min_stock tax_rate interest_rate heart_rate frame_rate sample_rate altitude depth"
)
_LISTS = words(
    "users orders files projects servers tickets invoices books songs students devices rooms cars "
    "flights reports messages photos teams jobs backups customers products courses events contacts "
    "patients sensors robots printers accounts branches builds services recipes tasks notes alarms "
    "cameras drivers employees friends groups games holidays keys lamps machines members movies "
    "offers packages pages payments plants players ports rules shops stations suppliers tables "
    "tags teachers tools trains videos visitors warehouses windows"
)
_KINDS_SENT = words("letter fax invitation card gift report parcel invoice postcard memo")


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
    attribute = fresh(source, _ATTRIBUTES)
    name, kind = (
        next(pair for pair in _ENTITIES if pair[0] == entity) if entity else source.pick(_ENTITIES)
    )
    said = attribute.replace("_", " ")
    param = Param(f"{name}|{name}|{name}_name|{'id' if kind == 'code' else 'name'}", kind)
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
    result = f"{attribute}:{source.pick(('int:1:999', 'made_up', 'int:1:99', 'state'))}"
    if source.chance(0.2):
        result = f"{name}:{kind} {result}"
    return Tool(
        f"get {attribute} {name}",
        f"get_{attribute}|get_{name}_{attribute}|{name}_{attribute}|fetch_{attribute}|lookup_"
        f"{attribute}|find_{attribute}|read_{attribute}|get_{attribute}_of_{name}",
        f"Get the {said} of {_one(name)}|Returns the {said}|Look up {_one(name)}'s {said}|The {said} of "
        f"the {name}|Find out the {said} of one {name}",
        (param,),
        asks,
        kept,
        result,
    )


def _doer(source: Source, verb: str = "", thing: str = "") -> Tool:
    verb, thing = verb or fresh(source, _VERBS), thing or fresh(source, _THINGS)
    kind = source.pick(_THING_KINDS)
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
        f"{verb.capitalize()} {_one(thing)}|{verb.capitalize()}s the given {thing}|{verb.capitalize()} "
        f"one {thing} by its name|Used to {verb} {_one(thing)}",
        (Param(f"{thing}|{thing}_name|name|{thing}_id|id", kind),),
        asks,
        kept,
    )


def _setter(source: Source) -> Tool:
    setting = fresh(source, _SETTINGS)
    said = setting.replace("_", " ")
    kind = source.pick(("int:1:100", "int:1:999", "number:1:50"))
    value = Param(f"value|{setting}|level|new_value|amount", kind)
    if source.chance(0.4):
        thing = fresh(source, _THINGS)
        return Tool(
            f"set {setting}",
            f"set_{setting}|set_{thing}_{setting}|change_{setting}|update_{setting}",
            f"Set the {said} of {_one(thing)}|Change {_one(thing)}'s {said}|New {said} for {_one(thing)}",
            (Param(f"{thing}|{thing}_name|name", source.pick(_THING_KINDS)), value),
            f"Set the {said} of {{a}} to {{b}}.|Change the {said} of the {thing} {{a}} to {{b}}.|"
            f"The {said} of {{a}} should be {{b}}.|{{a}}: {said} {{b}}|I want a {said} of {{b}} for"
            f" {{a}}.|Give the {thing} {{a}} a {said} of {{b}}.|Please set {{a}}'s {said} to {{b}}."
            f"|{said} {{b}} for {thing} {{a}}",
            f"Change the {said} of {{a}} to {{b}}.|Please set the {said} of {thing} {{a}} to {{b}}."
            f"|The {thing} {{a}} should have a {said} of {{b}}.",
        )
    return Tool(
        f"set {setting}",
        f"set_{setting}|change_{setting}|update_{setting}|{setting}|adjust_{setting}",
        f"Set the {said}|Change the {said}|Sets a new {said}|Adjust the {said}",
        (value,),
        f"Set the {said} to {{a}}.|Change the {said} to {{a}}, please.|{said} {{a}}|The {said} "
        f"should be {{a}}.|I want a {said} of {{a}}.|Make the {said} {{a}}.|Can you set the {said} "
        f"to {{a}}?|Put the {said} at {{a}}.|New {said}: {{a}}",
        f"Can you change the {said} to {{a}}?|Please set the {said} to {{a}}.|I want the {said} at "
        f"{{a}}.",
    )


def _lister(source: Source, items: str = "") -> Tool:
    items = items or fresh(source, _LISTS)
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
    items = items or fresh(source, _LISTS)
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
    items = items or fresh(source, _LISTS)
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
    kind = fresh(source, _KINDS_SENT)
    return Tool(
        f"send {kind}",
        f"send_{kind}|{kind}_to|deliver_{kind}|post_{kind}",
        f"Send {_one(kind)} to a person|Sends somebody {_one(kind)}|Deliver {_one(kind)}",
        (Param("to|recipient|person|name", "name"), Param("city|to_city|destination", "city")),
        f"Send {_one(kind)} to {{a}} in {{b}}.|Send {{a}} {_one(kind)}.|{{a}} in {{b}} should get {_one(kind)}."
        f"|Deliver {_one(kind)} to {{a}} in {{b}}.|I want to send {{a}} {_one(kind)} to {{b}}.|Please send "
        f"{_one(kind)} to {{a}}.|{_one(kind).capitalize()} for {{a}}, please.|Can you send {_one(kind)} to {{a}}, who lives "
        f"in {{b}}?",
        f"Send {_one(kind)} to {{a}}.|Can you send {{a}} in {{b}} {_one(kind)}?|I want to send {_one(kind)} to "
        f"{{a}} in {{b}}.",
    )


_PATTERNS = (
    *(_getter, _getter, _getter, _doer, _doer, _doer, _setter, _setter),
    *(_lister, _counter, _searcher, _sender),
)
