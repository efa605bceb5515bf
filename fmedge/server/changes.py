"""What another configuration changes in a running server: the pure difference of two.

The rule: a model is its name. One whose name goes is removed; one whose files now hold another
model is replaced, as no request of the one can go on with the other; one that is the same model
otherwise (settings, another quantisation, more replicas) is changed, and its requests go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from fmedge.config import Config, ModelConfig
from fmedge.server.plan import FileStamp, ModelPlan, ReplicaPlan

_SHOWN = frozenset({"pinned", "chat_template_file"})
"""Keys of a model that its workers know nothing of."""

SameModel = Callable[[ModelPlan, ModelPlan], bool]
"""Whether the files of both hold one model, with one vocabulary."""


class Changes(Struct, frozen=True, kw_only=True):
    """Names of models, sorted. relabelled: other aliases, template or `pinned`, with the same
    replicas. settings: what else changed, as it is called in the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def leaving(self) -> tuple[str, ...]:
        return (*self.removed, *self.replaced)

    @property
    def coming(self) -> tuple[str, ...]:
        return (*self.added, *self.replaced)

    @property
    def is_placed_anew(self) -> bool:
        """What runs where is a new question."""
        moved = self.added or self.removed or self.replaced or self.changed
        return bool(moved) or "[[rpc]]" in self.settings or "pinned" in self.settings

    def __str__(self) -> str:
        parts = {
            "added": self.added,
            "removed": self.removed,
            "replaced by another of its name": self.replaced,
            "loaded anew": self.changed,
            "relabelled": self.relabelled,
            "changed": self.settings,
        }
        said = [f"{', '.join(names)} {what}" for what, names in parts.items() if names]
        return "; ".join(said) or "nothing changed"


def difference(
    old: tuple[Config, Sequence[ModelPlan]],
    new: tuple[Config, Sequence[ModelPlan]],
    is_same_model: SameModel,
) -> Changes:
    """Each a configuration and its models in its order. is_same_model: asked of models whose files
    differ."""
    before, after = _models(*old), _models(*new)
    found: dict[str, list[str]] = {"replaced": [], "changed": [], "relabelled": []}
    is_pinned_otherwise = False
    for name in sorted(before.keys() & after.keys()):
        (was, was_plan), (now, plan) = before[name], after[name]
        what = _what(was, was_plan, now, plan, is_same_model)
        if what:
            found[what].append(name)
        is_pinned_otherwise |= was.pinned != now.pinned
    pinned = ("pinned",) if is_pinned_otherwise else ()
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        settings=(*_settings(old[0], new[0]), *pinned),
        **{what: tuple(names) for what, names in found.items()},
    )


def with_names_kept(
    running: Sequence[ReplicaPlan], wanted: ModelPlan, taken: Collection[str] = ()
) -> ModelPlan:
    """A model whose replicas its configuration says itself, by the names that things have: one that
    runs as it is wanted keeps its name, and no other gets the name of one that runs. taken: names
    of all replicas that there are, those of other models and those that are about to end too."""
    left = list(running)
    taken = {*taken, *(replica.name for replica in running)}
    named: list[ReplicaPlan] = []
    for replica in wanted.replicas:
        same = next((one for one in left if one.engine == replica.engine), None)
        if same is not None:
            left.remove(same)
            replica = replace(replica, name=same.name)
        elif replica.name in taken:
            number = 0
            while (name := f"{wanted.name}/{number}") in taken:
                number += 1
            replica = replace(replica, name=name)
        taken.add(replica.name)
        named.append(replica)
    return replace(wanted, replicas=tuple(named))


def _models(
    config: Config, plans: Sequence[ModelPlan]
) -> Mapping[str, tuple[ModelConfig, ModelPlan]]:
    pairs = zip(config.models, plans, strict=True)
    return {plan.name: (model, plan) for model, plan in pairs}


def _what(
    was: ModelConfig,
    was_plan: ModelPlan,
    now: ModelConfig,
    plan: ModelPlan,
    is_same_model: SameModel,
) -> str:
    if _contents(was_plan) != _contents(plan) and not is_same_model(was_plan, plan):
        return "replaced"
    if _loaded(was, was_plan) != _loaded(now, plan):
        return "changed"
    if _shown(was, was_plan) != _shown(now, plan):
        return "relabelled"
    return ""


def _contents(plan: ModelPlan) -> tuple[str, frozenset[FileStamp]]:
    return plan.engine.model_path, plan.stamps


def _loaded(model: ModelConfig, plan: ModelPlan) -> tuple[object, ...]:
    """All that its workers and the plan of them go by."""
    return (
        plan.engine,
        plan.stamps,
        [replica.engine for replica in plan.replicas],
        model.quantisations,
        model.given - _SHOWN,
        model.replicas,
    )


def _shown(model: ModelConfig, plan: ModelPlan) -> tuple[object, ...]:
    return plan.aliases, plan.chat_template, model.pinned, plan.metadata.is_embedding


def _settings(old: Config, new: Config) -> list[str]:
    keys = [
        key
        for key in old.server.__struct_fields__
        if getattr(old.server, key) != getattr(new.server, key)
    ]
    sections = {"[[rpc]]": "rpc", "[sla]": "sla", "[workflows]": "workflows"}
    return keys + [
        shown for shown, key in sections.items() if getattr(old, key) != getattr(new, key)
    ]
