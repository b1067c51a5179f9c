"""The objects of an offline run, from its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from hydra.utils import instantiate
from tensordict import TensorDictParams
from torchrl.data import OneHot, TensorSpec
from torchrl.objectives import BCLoss, DTLoss, LossModule, OnlineDTLoss

from torchrl_glam.config.checks import check_run
from torchrl_glam.errors import UsageError
from torchrl_glam.factory import EVALUATION_SEED
from torchrl_glam.offline import DecisionActor, DecisionPolicy, OfflineDataset, load_dataset, make_decision_actor
from torchrl_glam.offline.config import DecisionLoss, DecisionMemory, OfflineConfig, model_name
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.evaluation import Evaluation, evaluate_targets
from torchrl_glam.offline.training import DecisionUpdate


class AnnotatedBCLoss(BCLoss):
    """TorchRL's ``BCLoss``, which (0.14.1) lacks an annotation and warns of it."""

    target_actor_network_params: TensorDictParams


def check_offline_config(config: OfflineConfig, _: Iterable[str] = ()) -> None:
    """Raise UsageError for options that do not go together or are out of range."""
    check_run(config)
    if config.evaluation.episodes == 0:
        raise UsageError("evaluation.episodes=0: give a whole number of at least 1")
    name = model_name(config)
    if (warmup := config.optimizer.warmup_updates) >= config.total_updates:
        raise UsageError(
            f"optimizer.warmup_updates={warmup} must be below total_updates={config.total_updates}: lower the one or "
            "raise the other"
        )
    if config.evaluation.memory is DecisionMemory.carried and name in ("dt", "bc"):
        raise UsageError(f"evaluation.memory=carried: model={name} carries no state, use window")


def make_decision_network(
    config: OfflineConfig, observation_shape: Sequence[int], action_spec: TensorSpec
) -> DecisionActor:
    """Make the network that the options name, for these observations and actions."""
    normal = is_stochastic(config, action_spec) and not isinstance(action_spec, OneHot)
    size = action_spec.shape[-1]
    return instantiate(config.model)(observation_shape, size, output_size=2 * size if normal else None)


def read_dataset(config: OfflineConfig) -> OfflineDataset:
    """Load the dataset that the options name, and compare it with the environment."""
    return load_dataset(
        config.dataset,
        root=config.data.root,
        env_name=config.env.name,
        fraction=config.data.fraction,
        stack=config.data.stack,
        trust=config.trust,
    )


def make_dataset_network(config: OfflineConfig, dataset: OfflineDataset, device: torch.device) -> DecisionActor:
    """Make the network for a dataset, with the statistics of its observations and returns."""
    network = make_decision_network(config, dataset.observation_shape, dataset.action_spec)
    network.set_statistics(*dataset.observation_statistics(), dataset.return_scale)
    return network.to(device)


def resolve_loss(loss: DecisionLoss, action_spec: TensorSpec) -> DecisionLoss:
    """Return the loss that ``objective=auto`` means for these actions, or the one that was asked for.

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
    """Return whether the loss wants a distribution of actions."""
    return isinstance(action_spec, OneHot) or resolve_loss(config.objective, action_spec) is DecisionLoss.online_dt


def make_decision_update(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> DecisionUpdate:
    """Make loss, optimizer and schedule, as one update."""
    loss = _make_loss(config, network, action_spec)
    return DecisionUpdate(loss, network, total_updates=config.total_updates, **vars(config.optimizer))


def make_decision_policy(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> DecisionPolicy:
    """Make the policy of the evaluation."""
    actor = make_decision_actor(network, action_spec, is_stochastic(config, action_spec))
    return DecisionPolicy(actor, memory=config.evaluation.memory.value)


def make_evaluation(
    config: OfflineConfig, dataset: OfflineDataset, policy: DecisionPolicy
) -> Callable[..., list[Evaluation]]:
    """Make the function ``evaluate(fractions, progress=False)`` of the run's environment and episodes.

    See :func:`~torchrl_glam.offline.evaluation.evaluate_targets`.
    """
    make_env = partial(
        make_decision_env,
        dataset.env_spec or config.env.name or str(dataset.env_name),
        frame=dataset.frame,
        stack=dataset.stack,
        protocol=config.env.protocol.value,
        frame_skip=config.env.frame_skip,
    )
    return partial(
        evaluate_targets,
        dataset,
        make_env,
        policy,
        episodes=config.evaluation.episodes,
        num_envs=config.env.num_envs,
        seed=config.seed + EVALUATION_SEED,
    )


def target_fractions(config: OfflineConfig) -> list[float]:
    """Return the targets of the evaluation; behaviour cloning takes none, so the highest stands for all."""
    targets = config.evaluation.targets
    return [max(targets)] if model_name(config) == "bc" else targets


def _make_loss(config: OfflineConfig, network: DecisionActor, action_spec: TensorSpec) -> LossModule:
    loss, stochastic = resolve_loss(config.objective, action_spec), is_stochastic(config, action_spec)
    # Where BCLoss asks for a distribution, the actor must not overwrite the actions that it reads.
    key = "prediction" if loss is DecisionLoss.bc and stochastic else "action"
    actor = make_decision_actor(network, action_spec, stochastic, action_key=key)
    if loss is DecisionLoss.dt:
        return DTLoss(actor)
    if loss is DecisionLoss.online_dt:
        return OnlineDTLoss(actor, alpha_init=0.1)
    return AnnotatedBCLoss(actor)
