"""The parts of a file that say something of one thing each: [[model]], [[replica]], [sla.NAME] and
[workflows.NAME]. Values are checked one by one here; what must fit together, in cross.py."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import expanduser  # pathlib's raises where it knows no home
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from fmedge.config import promises
from fmedge.config.files import read_toml
from fmedge.config.promises import SlaConfig, WorkflowConfig, check_name
from fmedge.config.service import credential
from fmedge.config.settings import EMBEDDED, MODEL_KEYS, ReplicaConfig, Setting, settings
from fmedge.config.values import check, convert, unknown
from fmedge.errors import ConfigError

Text = Annotated[str, Meta(min_length=1)]
T = TypeVar("T", bound=Struct)


class ModelBlock(Struct):
    """A [[model]] of the file: its own engine values by key, with their places."""

    where: str
    model: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    quantisations: tuple[str, ...] = ()
    values: dict[str, tuple[str, Any]] = {}


def check_in(file: Path, setting: Setting, value: Any, where: str) -> Any:
    """A value of a file; paths in it are relative to it."""
    checked = check(setting, value, where)
    if not setting.is_path or not checked:
        return checked
    return str(file.parent / expanduser(credential(checked, where)))


def read_sections(path: Path, what: str, sections: tuple[str, ...]) -> dict[str, Any]:
    """The top table of a file beside the configuration, which has these sections alone; what: as
    `read_toml` takes it."""
    table = read_toml(path, what)
    for section in table:
        if section not in sections:
            raise unknown(str(path), section, list(sections), _configured())
    return table


def own_classes(table: Mapping[str, Any], path: Path) -> dict[str, SlaConfig]:
    """The [sla.NAME] classes of such a file."""
    return classes(table.get("sla", {}), path, _configured(), {})


def _configured() -> dict[str, Setting]:
    """What stands in the configuration and not here, for messages."""
    return {s.key: s for s in settings("server", "defaults", "client")}


def blocks(table: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """The [[key]] blocks."""
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(block, dict) for block in found):
        raise ConfigError(f"{path}: {key}s are a list of tables: write [[{key}]] for each")
    return found


def model_block(
    block: dict[str, Any], number: int, path: Path, known: Mapping[str, Setting]
) -> ModelBlock:
    where = f"{path}: [[model]] number {number}"
    engine = {s.key: s for s in known.values() if s.section == "defaults"}
    if "model" not in block:
        raise ConfigError(f'{where}: needs model = "PATH, NAME or hf:ORG/REPO"')
    entry = ModelBlock(where, "")
    for key, value in block.items():
        place = f"{where}: {key}"
        if key in engine:
            entry.values[key] = (place, check_in(path, engine[key], value, place))
        elif key == "aliases":
            entry.aliases = convert(value, tuple[str, ...], place)
        elif key == "quantisations":
            files = convert(value, tuple[Text, ...], place)
            entry.quantisations = tuple(beside(path, file) for file in files)
        elif key in ("model", "name"):
            setattr(entry, key, convert(value, Text, place))
        else:
            raise unknown(where, key, ["model", "name", "aliases", "quantisations", *engine], known)
    entry.model = beside(path, entry.model)
    return entry


def replica_block(
    block: dict[str, Any], number: int, path: Path, known: Mapping[str, Setting]
) -> ReplicaConfig:
    where = f"{path}: [[replica]] number {number}"
    engine = {s.key: s for s in settings("defaults") if s.key not in MODEL_KEYS}
    if "model" not in block:
        raise ConfigError(f'{where}: needs model = "NAME OF A SERVED MODEL"')
    texts = {"model": "", "name": "", "file": ""}
    own: dict[str, Any] = {}
    for key, value in block.items():
        place = f"{where}: {key}"
        if key in engine:
            own[key] = check_in(path, engine[key], value, place)
        elif key in texts:
            texts[key] = convert(value, Text, place)
        elif key in (*MODEL_KEYS, "aliases"):
            raise ConfigError(f"{place} is the model's, not a replica's: move it to its [[model]]")
        else:
            raise unknown(where, key, [*texts, *engine], known)
    if texts["name"]:
        check_name(texts["name"], f"{where}: name")
    if texts["file"]:
        texts["file"] = beside(path, texts["file"])
    return ReplicaConfig(where=where, engine=own, **texts)


def beside(path: Path, model: str) -> str:
    """A file next to the configuration is found whatever folder fmedge runs in."""
    is_file_name = model != EMBEDDED and not model.startswith("hf:")
    found = path.parent / expanduser(model)
    return str(found) if is_file_name and found.is_file() else model


def classes(
    content: Any, path: Path, known: Mapping[str, Setting], places: dict[str, str]
) -> dict[str, SlaConfig]:
    """[sla.NAME]; notes in `places` where each value stands."""
    made = {}
    for name, values in _named(content, "sla", "class", path, known, places).items():
        made[name] = SlaConfig(**values)
        promises.check_class(made[name], f"{path}: [sla.{name}]")
    return made


def workflows(
    content: Any, path: Path, known: Mapping[str, Setting], places: dict[str, str]
) -> dict[str, WorkflowConfig]:
    """[workflows.NAME]; notes in `places` where each value stands."""
    made = {}
    for name, values in _named(content, "workflows", "workflow", path, known, places).items():
        made[name] = WorkflowConfig(**values)
        promises.check_workflow(made[name], values, f"{path}: [workflows.{name}]")
    return made


def _named(
    content: Any,
    section: str,
    what: str,
    path: Path,
    known: Mapping[str, Setting],
    places: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """The checked values of each [section.NAME]."""
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {section} must be tables: write [{section}.NAME] for each")
    own = {s.key: s for s in settings(section)}
    made: dict[str, dict[str, Any]] = {}
    for name, table in content.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: [{section}] {name}: each {what} has a table of its own: write "
                f"[{section}.NAME] above its keys"
            )
        where = f"{path}: [{section}.{name}]"
        check_name(name, f"{path}: [{section}.NAME]")
        made[name] = {}
        for key, value in table.items():
            if key not in own:
                if isinstance(value, dict):
                    raise ConfigError(
                        f"{where} has a table {key!r}: a name with a dot is written "
                        f'[{section}."{name}.{key}"]'
                    )
                raise unknown(where, key, list(own), known)
            made[name][key] = check(own[key], value, f"{where} {key}")
            places[f"{section}.{name}.{key}"] = f"{where} {key}"
    return made
