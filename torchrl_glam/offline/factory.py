"""Options of an offline run to objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tensordict import TensorDictParams
from torchrl.data import OneHot, TensorSpec
from torchrl.envs import EnvBase
from torchrl.objectives import BCLoss, DTLoss, LossModule, OnlineDTLoss

from torchrl_glam.config.checks import check_run
from torchrl_glam.errors import UsageError
from torchrl_glam.offline import (
    BehaviourCloningActor,
    DecisionActor,
    DecisionPolicy,
    DecisionTransformerActor,
    DMambaActor,
    MambaDMActor,
    OfflineDataset,
    load_dataset,
    make_decision_actor,
)
from torchrl_glam.offline.config import (
    DecisionLoss,
    DecisionMemory,
    DecisionModel,
    DecisionModelConfig,
    OfflineConfig,
)
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.training import DecisionUpdate

ALL = ("name", "width", "num_layers", "context", "dropout")
SEQUENCE = ("max_steps",)
MAMBA = ("d_state", "d_conv", "expand", "backend")
READ = {
    DecisionModel.mambadm: (*ALL, *SEQUENCE, *MAMBA, "local_length", "fusion", "branches"),
    DecisionModel.dt: (*ALL, *SEQUENCE, "num_heads"),
    DecisionModel.dmamba: (*ALL, *SEQUENCE, *MAMBA),
    DecisionModel.bc: ALL,
}
"""Which options mean something to a model."""

CLASSES: dict[DecisionModel, Any] = {
    DecisionModel.mambadm: MambaDMActor,
    DecisionModel.dt: DecisionTransformerActor,
    DecisionModel.dmamba: DMambaActor,
    DecisionModel.bc: BehaviourCloningActor,
}


class AnnotatedBCLoss(BCLoss):
    """TorchRL's, which (0.14.1) lacks an annotation and warns of it."""

    target_actor_network_params: TensorDictParams


def check_offline_config(config: OfflineConfig, given: Iterable[str] = ()) -> None:
    """Raise UsageError for options that do not go together or are out of range.

    Args:
        config: the options.
        given: names of those that the user gave; one that the model does not read is refused.
    """
    check_run(config)
    model = config.model
    for name in given:
        group, _, option = name.partition(".")
        if group == "model" and option and option not in READ[model.name]:
            raise UsageError(f"{name} means nothing to model={model.name.value}: leave it out")
    if (warmup := config.optimizer.warmup_updates) >= config.total_updates:
        raise UsageError(
            f"optimizer.warmup_updates={warmup} must be below total_updates={config.total_updates}: lower the one or "
            "raise the other"
        )
    if config.evaluation.memory is DecisionMemory.carried and model.name in (DecisionModel.dt, DecisionModel.bc):
        raise UsageError(f"evaluation.memory=carried: model={model.name.value} carries no state, use window")


def make_decision_network(
    config: OfflineConfig, observation_shape: Sequence[int], action_spec: TensorSpec
) -> DecisionActor:
    """The network that the options name, for these observations and actions."""
    model, action_size = config.model, action_spec.shape[-1]
    options = model_options(model)
    if model.name is not DecisionModel.dt:
        del options["context"]
    if "max_steps" in options:
        options["max_steps"] = options["max_steps"] or None
    if is_stochastic(config, action_spec) and not isinstance(action_spec, OneHot):
        options["output_size"] = 2 * action_size
    return CLASSES[model.name](observation_shape, action_size, **options)


def model_options(model: DecisionModelConfig) -> dict[str, Any]:
    """The options that the model reads, but its name, as plain values."""
    options = {name: getattr(model, name) for name in READ[model.name] if name != "name"}
    return {name: getattr(value, "value", value) for name, value in options.items()}


def read_dataset(config: OfflineConfig) -> OfflineDataset:
    """The dataset that the options name, held against the environment."""
    return load_dataset(config.dataset, root=config.data.root, env_name=config.env.name, fraction=config.data.fraction)


def make_dataset_network(config: OfflineConfig, dataset: OfflineDataset, device: torch.device) -> DecisionActor:
    """The network for a dataset, which knows the statistics of its observations and returns."""
    network = make_decision_network(config, dataset.observation_shape, dataset.action_spec)
    network.set_statistics(*dataset.observation_statistics(), dataset.return_scale)
    return network.to(device)


def resolve_loss(loss: DecisionLoss, action_spec: TensorSpec) -> DecisionLoss:
    """What ``objective=auto`` means for these actions.

    Raises:
        UsageError: if the loss asked for does not suit the actions.
    """
    discrete = isinstance(action_spec, OneHot)
    if loss is DecisionLoss.auto:
        return DecisionLoss.bc if discrete else DecisionLoss.dt
    if loss is DecisionLoss.dt and discrete:
        raise UsageError("objective=dt is a squared error, for continuous actions: use objective=bc for discrete ones")
    if loss is DecisionLoss.online_dt and discrete:
        raise UsageError("objective=online_dt aims at an entropy that discrete actions cannot have: use objective=bc")
    return loss


def is_stochastic(config: OfflineConfig, action_spec: TensorSpec) -> bool:
    """Whether the loss wants a distribution of actions."""
    return isinstance(action_spec, OneHot) or resolve_loss(config.objective, action_spec) is DecisionLoss.online_dt


def make_decision_update(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> DecisionUpdate:
    """Loss, optimizer and schedule, as one update."""
    return DecisionUpdate(
        _make_loss(config, network, action_spec),
        network,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        warmup_updates=config.optimizer.warmup_updates,
        total_updates=config.total_updates,
        max_norm=config.optimizer.max_norm,
    )


def make_decision_policy(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> DecisionPolicy:
    """What acts in the evaluation."""
    actor = make_decision_actor(network, action_spec, is_stochastic(config, action_spec))
    return DecisionPolicy(actor, context=config.model.context, memory=config.evaluation.memory.value)


def make_evaluation_env(config: OfflineConfig, observation_shape: Sequence[int]) -> EnvBase:
    """One of the environments of the evaluation, for observations of this shape."""
    return make_decision_env(
        str(config.env.name),
        pixels=len(observation_shape) == 3,
        protocol=config.env.protocol.value,
        frame_skip=config.env.frame_skip,
    )


def target_fractions(config: OfflineConfig) -> list[float]:
    """What is asked for in the evaluation; behaviour cloning hears of no target, so the highest stands for all."""
    targets = config.evaluation.targets
    return [max(targets)] if config.model.name is DecisionModel.bc else targets


def _make_loss(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> LossModule:
    loss, stochastic = resolve_loss(config.objective, action_spec), is_stochastic(config, action_spec)
    # Where BCLoss asks for a distribution, the actor must not write over the actions that it reads, see there.
    key = "prediction" if loss is DecisionLoss.bc and stochastic else "action"
    actor = make_decision_actor(network, action_spec, stochastic, action_key=key)
    if loss is DecisionLoss.dt:
        return DTLoss(actor)
    if loss is DecisionLoss.online_dt:
        return OnlineDTLoss(actor, alpha_init=0.1)
    return AnnotatedBCLoss(actor)
