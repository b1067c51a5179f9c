"""The two updates."""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor
from torch.optim import Adam
from torchrl.modules import ProbabilisticActor

from torchrl_glam.config import GLAMConfig, OptimizerConfig, Precision, Starts
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.factory.objectives import Parts, make_objective
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training import (
    PolicyUpdate,
    Start,
    WorldModelUpdate,
    trained_parameters,
)

PRECISIONS = {Precision.float32: torch.float32, Precision.bfloat16: torch.bfloat16}


def make_optimizer(options: OptimizerConfig, parameters: list[Tensor]) -> Adam:
    """Adam over ``parameters``, as one kernel."""
    return Adam(parameters, lr=options.lr, betas=(0.9, options.beta2), eps=options.eps, fused=True)


def make_world_model_trainer(config: GLAMConfig, world_model: GLAMWorldModel) -> WorldModelUpdate:
    """Loss and optimizer of the world model, as one update."""
    options = config.model_loss
    loss = GLAMModelLoss(
        world_model,
        first_valid=options.first_valid,
        dynamics_coeff=options.dynamics_coeff,
        representation_coeff=options.representation_coeff,
        variation_coeff=options.variation_coeff,
        free_nats=options.free_nats,
        variation_target=options.variation_target.value,
        variation_free_nats=options.variation_free_nats,
        keep_state=config.imagination.starts is Starts.batch,
    ).to(next(world_model.parameters()).device)
    trained = trained_parameters(loss)
    optimizer = make_optimizer(config.model_optimizer, trained)
    return WorldModelUpdate(
        loss,
        optimizer,
        config.model_optimizer.max_norm,
        precision=PRECISIONS[config.training.precision],
        compile=_compile_updates(config, trained[0].device),
    )


def make_policy_trainer(
    config: GLAMConfig, env: GLAMImaginedEnv, actor: ProbabilisticActor, critic: TensorDictModule
) -> PolicyUpdate:
    """Objective and optimizer of the agent, as one update."""
    compiled = _compile_updates(config, env.device)
    objective, networks = make_objective(Parts(config, env, actor, critic, _make_start(config, env), compiled))
    return PolicyUpdate(
        objective,
        networks,
        make_optimizer(config.agent_optimizer, trained_parameters(*networks.values())),
        config.agent_optimizer.max_norm,
        precision=PRECISIONS[config.training.precision],
    )


def _make_start(config: GLAMConfig, env: GLAMImaginedEnv) -> Start:
    """From contexts to their ends; with ``imagination.starts=batch`` from the world model's batch to steps in it."""
    if config.imagination.starts is Starts.replay:
        return lambda contexts: env.start(contexts["pixels"], contexts["action"])
    number, first = config.imagination.batch_size, config.model_loss.first_valid
    return lambda batch: env.start_within(batch["state"], batch["action"], number=number, first=first)


def _compile_updates(config: GLAMConfig, device: torch.device) -> bool:
    """On a CPU convolutions and matrix products are 85 % of the world model's update: compiled, it takes as long."""
    return config.training.compile and device.type == "cuda"
