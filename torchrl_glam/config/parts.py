"""Hydra nodes made of constructors: a part's signature is the one place that says its options and their defaults.

A part is chosen by its group (``dynamics=storm``) or by the import path of a class (``dynamics=package.module.Class``).
Its node carries ``_target_``, as those of TorchRL's configs do.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, List, Union, get_args, get_origin  # noqa: UP035 (what OmegaConf 2.3 reads)

from hydra.core.config_store import ConfigStore
from hydra_zen import BuildsFn
from hydra_zen.typing import SupportedPrimitive
from torch import nn
from torchrl.objectives import LossModule

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    DoubleMamba,
    DoubleTransformer,
    GLAMDynamics,
    LMamba,
    SequenceBackbone,
    TransformerDynamics,
)
from torchrl_glam.modules.autoencoders import (
    ImageDecoder,
    ImageEncoder,
    MixedDecoder,
    MixedEncoder,
    PatchDecoder,
    PatchEncoder,
    VectorDecoder,
    VectorEncoder,
    auto_decoder,
    auto_encoder,
)
from torchrl_glam.modules.heads import TwoHotHead
from torchrl_glam.training import (
    DreamerObjective,
    GLAMObjective,
    Objective,
    OffPolicyObjective,
    OnPolicyObjective,
)
from torchrl_glam.training.imports import import_class


class Builds(BuildsFn[SupportedPrimitive]):
    """hydra-zen's ``builds``, with public import paths and the types ``int | None`` and ``Sequence[int]``."""

    @classmethod
    def _get_obj_path(cls, target: Any) -> str:
        path, name = str(super()._get_obj_path(target)), getattr(target, "__name__", "")
        room = ".".join(path.split(".")[:2])  # torchrl_glam.modules
        return f"{room}.{name}" if getattr(sys.modules.get(room), name, None) is target else path

    @classmethod
    def _sanitized_type(cls, type_: Any, **options: Any) -> Any:
        if isinstance(type_, types.UnionType):
            type_ = Union[get_args(type_)]  # noqa: UP007
        if get_origin(type_) is Sequence:
            type_ = List[get_args(type_)]  # type: ignore[misc]  # noqa: UP006
        return super()._sanitized_type(type_, **options)


@functools.cache
def make_node(target: Any, given: tuple[str, ...] = (), partial: bool = False) -> Any:
    """Make the dataclass whose fields are the options of a class or function, with their defaults.

    Args:
        target: what the node makes.
        given: arguments that are no options, since whoever makes the part gives them.
        partial: what is made of the node is a partial, which is called with those arguments.
    """
    options = {"populate_full_signature": True, "zen_partial": partial or None, "zen_exclude": given}
    parameters = inspect.signature(target).parameters.values()
    lists = {each.name: list(each.default) for each in parameters if isinstance(each.default, tuple)}  # as in yaml
    builds: Any = Builds.builds
    return builds(target, **options, **{name: value for name, value in lists.items() if name not in given})


@dataclass(frozen=True)
class Group:
    """Parts that take each other's place.

    Args:
        place: where the chosen one lies among the options of a run.
        base: the class that all of them extend.
        choices: the classes, or functions that make one, that have a name, the default first.
        given: arguments that are no options.
        partial: see :func:`make_node`.
    """

    place: str
    base: type
    choices: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    partial: bool = False

    def node(self, part: Any) -> Any:
        """Make the node of one part."""
        return make_node(part, self.given, self.partial)

    def name_of(self, node: Any) -> str:
        """Return the name under which a node's part is chosen: of a class of the user's, its import path."""
        names = {self.node(part)._target_: name for name, part in self.choices.items()}
        return getattr(node, "name", "") or names.get(node._target_, node._target_)


SIZES = ("image_shape", "vector_size", "channels", "num_categoricals", "num_classes", "unimix", "state_size")
ENCODERS: Mapping[str, Any] = {
    "auto": auto_encoder,
    "image": ImageEncoder,
    "patch": PatchEncoder,
    "vector": VectorEncoder,
    "mixed": MixedEncoder,
}
DECODERS: Mapping[str, Any] = {
    "auto": auto_decoder,
    "image": ImageDecoder,
    "patch": PatchDecoder,
    "vector": VectorDecoder,
    "mixed": MixedDecoder,
}
GROUPS = {
    "dynamics": Group(
        "world_model.dynamics",
        SequenceBackbone,
        {
            "glam": GLAMDynamics,
            "lmamba_only": LMamba,
            "double_mamba": DoubleMamba,
            "storm": TransformerDynamics,
            "double_transformer": DoubleTransformer,
        },
    ),
    "encoder": Group("world_model.encoder", nn.Module, ENCODERS, SIZES, partial=True),
    "decoder": Group("world_model.decoder", nn.Module, DECODERS, SIZES, partial=True),
    "reward_head": Group(
        "world_model.reward_head", nn.Module, {"two_hot": TwoHotHead}, ("inputs", "hidden"), partial=True
    ),
    "objective": Group(
        "objective", Objective, given=("env", "actor", "agent", "start", "compile"), partial=True
    ),  # its choices are the files of configs/objective/
}
"""The parts of a run by the option that chooses them."""

SCHEMES = {
    "glam": GLAMObjective,
    "on_policy": OnPolicyObjective,
    "dreamer": DreamerObjective,
    "off_policy": OffPolicyObjective,
}
"""The objectives that a file of ``configs/objective/`` may build on, as ``defaults: [/scheme@_here_: on_policy]``."""


def store_parts() -> None:
    """Put the nodes of all parts into Hydra's ``ConfigStore``."""
    store = ConfigStore.instance().store
    for name, group in GROUPS.items():
        for choice, part in group.choices.items():
            store(group=name, name=choice, node=group.node(part), package=group.place, provider="torchrl_glam")
    for scheme, objective in SCHEMES.items():
        store(group="scheme", name=scheme, node=GROUPS["objective"].node(objective), provider="torchrl_glam")


def store_imported(arguments: Sequence[str]) -> None:
    """Let Hydra know the classes that arguments such as ``dynamics=package.module.Class`` name by their import paths.

    A ``LossModule`` as objective becomes an on-policy objective over that loss.

    Raises:
        UsageError: if one cannot be imported, or is no such part.
    """
    for argument in arguments:
        name, _, value = argument.partition("=")
        name = name.lstrip("+")
        group = GROUPS.get(name)
        if group is None:
            continue
        for path in re.findall(r"[^\s,()\[\]\"']+", value):
            if re.fullmatch(r"\w+([.:]\w+)+", path):
                node = node_from_path(name, path)
                ConfigStore.instance().store(group=name, name=path, node=node, package=group.place)


def node_from_path(name: str, path: str) -> Any:
    """Make the node of a class that an import path names.

    Args:
        name: of its group.
        path: ``package.module.Class``.

    Raises:
        UsageError: if it cannot be imported, or is no such part.
    """
    group = GROUPS[name]
    if own := [part for part in group.choices.values() if group.node(part)._target_ == path]:
        return group.node(own[0])
    bases = (Objective, LossModule) if group.base is Objective else (group.base,)
    found = import_class(name, path, *bases)
    if issubclass(found, LossModule):
        return group.node(OnPolicyObjective)(name=path, loss=path)
    try:
        return group.node(found)
    except Exception as error:  # of a signature that hydra-zen cannot make options of
        raise UsageError(f"{name}={path}: its signature cannot be made into options ({error}): simplify it") from error
