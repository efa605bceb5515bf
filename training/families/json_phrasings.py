"""Wordings of requests for JSON. The schema, the text and the keys stand where the braces are."""

from __future__ import annotations

INVENT = (
    "Give me a JSON object for this schema:\n{schema}",
    "Write a JSON object that fits this schema: {schema}",
    "Return only JSON that matches this schema:\n{schema}",
    "Schema: {schema}\nAnswer with a JSON object.",
    "{schema}\nMake an example for this schema.",
    "{schema}",
    "Generate an example object for the JSON schema {schema}",
    "Fill in this JSON schema with example values:\n{schema}",
    "I need some JSON that is valid for {schema}",
    "Create a valid instance of this JSON Schema: {schema}",
    "What could an object of this schema look like?\n{schema}",
    "Here is a JSON schema:\n{schema}\nInvent an object for it.",
    "Please produce one JSON object. It must follow this schema exactly:\n{schema}",
    "Answer in JSON. Use this schema: {schema}",
    "Show me sample data for this schema.\n{schema}",
    "Output a JSON value conforming to {schema}",
    "Respond with JSON only, no other text. The schema is:\n{schema}",
    "Can you make up test data with this schema?\n{schema}",
    "An example of {schema} please",
    "Give an instance of\n{schema}",
    "Using the following schema, write JSON.\n\n{schema}",
    "Generate JSON according to the schema below.\n\n{schema}",
    "Respond with a JSON object that validates against this schema:\n{schema}",
    "json for {schema}",
    "I want an object that follows this schema and nothing else:\n{schema}",
    "Your answer must be a JSON object with this schema: {schema}",
    "Give me a random object of this schema: {schema}",
)
INVENT_KEPT_BACK = (
    "Please write JSON for the following schema:\n{schema}",
    "Give me an example object that follows this schema exactly: {schema}",
    "Use the schema below and answer with valid JSON only.\n{schema}",
    "I need a JSON object conforming to this schema:\n{schema}",
    "{schema}\nWrite one JSON object that matches the schema.",
    "Produce sample JSON according to this schema: {schema}",
    "Create some test data that is valid for this JSON schema:\n{schema}",
)

FILL = (
    "{text}\nGive this as JSON with the schema:\n{schema}",
    "Extract the data as JSON.\nSchema: {schema}\nText: {text}",
    "Text: {text}\nSchema: {schema}\nAnswer with JSON.",
    "Put this into JSON that fits the schema {schema}: {text}",
    "Read the text and fill in the schema.\n{schema}\n{text}",
    "{schema}\n{text}",
    "{text}\n{schema}",
    "Turn this text into a JSON object of this schema.\nText: {text}\nSchema: {schema}",
    "Use this JSON schema: {schema}\nThe text is: {text}",
    "What does this text say? Answer in JSON only, with this schema:\n{schema}\n\n{text}",
    "Convert to JSON ({schema}): {text}",
    'Here is a text: "{text}"\nReturn its facts as JSON matching this schema: {schema}',
    "Make a JSON object from the following text.\n{text}\nIt must follow this schema:\n{schema}",
    "Find the values in the text and return JSON.\n{text}\nThe schema is {schema}",
    "Schema:\n{schema}\nInput: {text}\nOutput:",
    "Parse this with the schema below.\n{text}\n{schema}",
    "Please extract the values for this schema: {schema}\n\n{text}",
    "Respond with JSON only. Schema: {schema}. Input: {text}",
    "Write what is said here as JSON: {text}\nSchema: {schema}",
    "Write JSON that follows the schema {schema} and matches the text: {text}",
    "Information: {text}\nFill this schema with it: {schema}",
)
FILL_KEPT_BACK = (
    "Extract the facts from this text as JSON.\n{text}\nThe schema is:\n{schema}",
    "Read this text: {text}\nAnswer in JSON with this schema: {schema}",
    "Schema: {schema}\nTurn the following text into JSON: {text}",
    "{text}\nReturn this as a JSON object that matches the schema {schema}",
    "Use the schema {schema} and fill in the values from the text.\n{text}",
    "Convert the text into JSON that follows the schema.\nSchema:\n{schema}\nText:\n{text}",
)

SYSTEM = (
    "Answer in JSON with this schema:\n{schema}",
    "You answer with JSON only. Schema: {schema}",
    "Respond with a JSON object that matches this JSON schema:\n{schema}",
    "Extract data from the user's text as JSON.\nSchema: {schema}",
    "You are a helpful assistant. Return only JSON that fits this schema: {schema}",
    "{schema}",
    "Your answer must follow this JSON schema exactly:\n{schema}",
    "Always answer with valid JSON according to this schema. {schema}",
    "Your answer is an object that follows this schema, matching what the user says: {schema}",
    "Here's the json schema you must adhere to:\n{schema}",
)
SYSTEM_KEPT_BACK = (
    "You must answer in JSON. The schema is:\n{schema}",
    "Return only a valid JSON object that follows this schema:\n{schema}",
    "Extract the user's data as JSON matching this schema: {schema}",
    "You are an assistant. Respond with JSON according to the schema {schema}",
)
SYSTEM_INVENT = (
    "Give me an example.",
    "Go ahead.",
    "Invent one.",
    "Make one up.",
    "One object please.",
    "Give me some test data.",
    "Answer now.",
    "Write an example object.",
    "I need sample data.",
    "Show me an instance.",
    "Generate one.",
    "JSON, please.",
)
SYSTEM_INVENT_KEPT_BACK = (
    "Generate an example.",
    "Write one object please.",
    "Show me some sample data.",
    "Give me one instance.",
)

AGAIN_INVENT = (
    "And for this one?\n{schema}",
    "Now this schema: {schema}",
    "And one for {schema}",
    "Next schema:\n{schema}",
    "The same for {schema}",
)
AGAIN_INVENT_KEPT_BACK = ("And this schema?\n{schema}", "Now for this one: {schema}")
AGAIN_FILL = (
    "Now this one: {text}",
    "And this? {text}",
    "The same for: {text}",
    "Next: {text}",
    "{text}",
    "Do it again for this text: {text}",
)
AGAIN_FILL_KEPT_BACK = ("And now this text: {text}", "The same again for this one: {text}")

EXTRACT = (
    "Extract {keys} as JSON: {text}",
    "{text}\nGive me {keys} as JSON.",
    "Return a JSON object with {keys} from this text: {text}",
    "From the text below, extract {keys}. Answer in JSON only.\n{text}",
    "What are {keys} in this text? Answer with JSON.\n{text}",
    "Text: {text}\nKeys: {keys}\nJSON:",
    'Put {keys} from "{text}" into a JSON object.',
    "Convert to JSON with the keys {keys}: {text}",
    "Read this: {text} Now write {keys} as JSON.",
    "{text} -> JSON with {keys}",
    "Find {keys}. Output JSON only, no other text.\n\n{text}",
    "Make JSON from this sentence, using the keys {keys}. {text}",
    "I need {keys} in JSON. {text}",
    "Turn this sentence into a JSON object (keys: {keys}): {text}",
    "Please parse the following text into JSON with {keys}.\n{text}",
    "Get {keys} from this sentence, as a JSON object: {text}",
    "json with {keys}: {text}",
)
EXTRACT_KEPT_BACK = (
    "Please extract {keys} from this sentence as JSON: {text}",
    "Read the text and return {keys} in JSON.\n{text}",
    "{text}\nTurn this into JSON with the keys {keys}.",
    "Write a JSON object with {keys} from the following sentence: {text}",
    "Text: {text}\nFind {keys} and answer with JSON only.",
)

BUILD = (
    "Write a JSON object with {pairs}.",
    "Make a JSON object with {pairs}",
    "Give me JSON with {pairs}",
    "Create JSON: {pairs}",
    "I need a JSON object where {pairs}",
    "JSON with {pairs} please",
    "Please put {pairs} into a JSON object.",
    "Turn {pairs} into JSON.",
    "Return only a JSON object with {pairs}.",
    "{pairs} as JSON",
    "Convert this to JSON:\n{pairs}",
    "Could you write {pairs} as a JSON object?",
    "Output {pairs} in JSON format.",
    "What does {pairs} look like in JSON?",
)
BUILD_KEPT_BACK = (
    "Please write JSON with {pairs}.",
    "Convert {pairs} to a JSON object.",
    "Could you give me {pairs} in JSON format?",
    "Create a JSON object where {pairs}",
)

NAMED = (
    "Give me a JSON object with the keys {keys}.",
    "Write JSON with {keys}",
    "Make up a JSON object that has {keys}.",
    "An example JSON object with {keys}, please.",
    "Return JSON with the fields {keys} and example values.",
    "Generate a JSON object with fields {keys}",
    "I need a sample JSON with {keys}.",
    "Create test data as JSON with these keys: {keys}",
    "Show me JSON that has the keys {keys}",
    "Invent values for {keys} and answer in JSON.",
)
NAMED_KEPT_BACK = (
    "Please make a sample JSON object with the keys {keys}.",
    "Create JSON that has {keys} and example values.",
    "Show me an example JSON with fields {keys}",
)

ARRAY = (
    "Write this list as a JSON array: {items}",
    "{items} as a JSON array",
    "Turn {items} into a JSON array.",
    "Give me a JSON array of {items}",
    "Make a JSON list with {items}.",
    "JSON array with {items}, please",
    "Convert this list to JSON: {items}",
    "Put {items} into a JSON array. Only the array.",
    "I need {items} as a list in JSON.",
    "Return {items} in a JSON array.",
    "Format as JSON array: {items}",
    "Could you write {items} as a JSON list?",
)
ARRAY_KEPT_BACK = (
    "Please convert {items} to a JSON array.",
    "Make this list a JSON array: {items}",
    "Return a JSON list of {items}",
    "Could you put {items} in a JSON array?",
)

LOOK_UP = (
    "What is the value of {key} in {json}?",
    "{json}\nWhat is {key}?",
    "Here is some JSON: {json}\nTell me the value of {key}.",
    "Look at this JSON object and give me {key}: {json}",
    "In the JSON {json}, what is {key}?",
    "Read {key} from this JSON:\n{json}",
    "Which value has the key {key}? {json}",
    "Get {key} out of {json}",
    "{json} -> {key}?",
    "Find the value for {key} in this object: {json}",
)
LOOK_UP_KEPT_BACK = (
    "What is {key} in this JSON object? {json}",
    "Here is some JSON: {json}\nFind {key}.",
    "Tell me the value for the key {key}: {json}",
    "Look at {json}\nWhat value has {key}?",
)
LOOK_UP_AGAIN = ("And {key}?", "What about {key}?", "and {key}", "Now {key}.", "What is {key}?")
LOOK_UP_AGAIN_KEPT_BACK = ("And what is {key}?", "And now {key}?")

THING = (
    "Give me {thing} as JSON.",
    "Write a JSON object for {thing}.",
    "Make up {thing} in JSON",
    "{thing} in JSON",
    "Show me a JSON example of {thing}.",
    "Describe {thing} as a JSON object",
    "I need {thing} as JSON",
    "Create JSON for {thing}",
    "What could {thing} look like in JSON?",
    "Generate a JSON object describing {thing}",
    "Return {thing} in JSON format, no other text.",
    "Please write {thing} as a JSON object.",
    "Invent {thing}. Answer with JSON only.",
)
THING_KEPT_BACK = (
    "Please give me a JSON object describing {thing}.",
    "Write {thing} in JSON format.",
    "Generate JSON for {thing}",
    "Create a JSON example of {thing}.",
)
THINGS = (
    "Give me a JSON array of {num} {things}.",
    "A JSON list of {num} {things}",
    "{num} {things} as a JSON array",
    "Write {num} {things} in JSON.",
    "List {num} {things} as JSON, please.",
    "I need {num} {things} in a JSON array",
    "Name {num} {things}. Answer with a JSON array only.",
    "Return {num} {things} as JSON",
    "Show me {num} {things} in JSON format.",
    "Make a JSON array with {num} {things}",
)
THINGS_KEPT_BACK = (
    "Please write {num} {things} as a JSON array.",
    "Give me {num} {things} in JSON format.",
    "Make a JSON list of {num} {things}",
    "Name {num} {things} in JSON.",
)
