"""The two updates, and the objective that one of them follows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import LossModule

from torchrl_glam.config import GROUPS, GLAMConfig, OptimizerConfig, Precision, Starts
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.factory.networks import make_part
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.training import Objective, PolicyUpdate, Start, WorldModelUpdate, trained_parameters

PRECISIONS = {Precision.float32: torch.float32, Precision.bfloat16: torch.bfloat16}


def make_optimizer(options: OptimizerConfig, parameters: list[Tensor]) -> Adam:
    """Make Adam over ``parameters``, as one kernel."""
    return Adam(parameters, lr=options.lr, betas=(0.9, options.beta2), eps=options.eps, fused=True)


def set_matmul_precision(config: GLAMConfig, device: torch.device) -> None:
    """Set torch's precision of float32 matrix products, for this process, to ``training.matmul``; on CUDA only.

    Convolutions are in TF32 by torch's own default.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision(config.training.matmul.value)
        # Said by torch's compiler of each process that leaves it at `highest`.
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores for float32 matrix multiplication", UserWarning)


def make_world_model_update(config: GLAMConfig, world_model: GLAMWorldModel) -> WorldModelUpdate:
    """Make loss and optimizer of the world model, as one update."""
    set_matmul_precision(config, next(world_model.parameters()).device)
    loss = make_part("model_loss", config.model_loss, world_model).to(next(world_model.parameters()).device)
    trained = trained_parameters(loss)
    return WorldModelUpdate(
        loss,
        make_optimizer(config.model_optimizer, trained),
        config.model_optimizer.max_norm,
        precision=PRECISIONS[config.training.precision],
        compile=compiles_updates(config, trained[0].device),
    )


def make_objective(config: GLAMConfig, env: GLAMImaginedEnv, actor: ProbabilisticActor) -> Objective:
    """Make the objective that ``objective=...`` chooses, with its critic."""
    inputs = (env, actor, config.agent, make_start(config, env))
    objective: Objective = make_part(
        "objective", config.objective, *inputs, compile=compiles_updates(config, env.device)
    )
    check_objective(config.objective, objective)
    return objective


def check_objective(node: Any, objective: Objective) -> None:
    """Raise UsageError for an objective that lacks what is trained and saved."""
    name = GROUPS["objective"].name_of(node)
    networks, losses = getattr(objective, "networks", None), getattr(objective, "losses", None)
    if not isinstance(networks, dict) or "actor" not in networks:
        raise UsageError(f'objective={name} sets no networks: {{"actor": self.actor, ...}}, all that it trains')
    if bad := [part for part, network in networks.items() if not isinstance(network, nn.Module)]:
        raise UsageError(f"objective={name}: networks[{bad[0]!r}] is no torch.nn.Module")
    if not isinstance(losses, Sequence) or not all(isinstance(loss, LossModule) for loss in losses):
        raise UsageError(f"objective={name} sets no losses: a list of TorchRL's LossModule, which may be empty")


def make_policy_update(config: GLAMConfig, env: GLAMImaginedEnv, actor: ProbabilisticActor) -> PolicyUpdate:
    """Make objective and optimizer of the agent, as one update."""
    objective = make_objective(config, env, actor)
    return PolicyUpdate(
        objective,
        make_optimizer(config.agent_optimizer, trained_parameters(*objective.networks.values())),
        config.agent_optimizer.max_norm,
        precision=PRECISIONS[config.training.precision],
    )


def make_start(config: GLAMConfig, env: GLAMImaginedEnv) -> Start:
    """Start after contexts of the replay, or with ``imagination.starts=batch`` within the world model's latents."""
    if config.imagination.starts is Starts.replay:
        world_model = env.transition.world_model
        return lambda contexts: env.start(
            world_model.observation(contexts), contexts["action"], world_model.begins(contexts)
        )
    number, first = config.imagination.batch_size, config.first_start()
    return lambda latents: env.start_within(
        latents["state"], latents["action"], number=number, first=first, is_init=latents.get("is_init", None)
    )


def compiles_updates(config: GLAMConfig, device: torch.device) -> bool:
    """Return whether losses are compiled: not on a CPU, where matrix products and convolutions are 85 % of the time."""
    return config.training.compile and device.type == "cuda"
