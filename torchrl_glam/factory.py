"""Config to objects: the only file that knows both."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import TensorDictReplayBuffer, TensorSpec
from torchrl.envs import EnvBase
from torchrl.modules import PercentileValueNorm, ProbabilisticActor
from torchrl.objectives import A2CLoss, SoftUpdate

from torchrl_glam.config import GLAMConfig, ImaginedMemory, OptimizerConfig, Precision, Starts
from torchrl_glam.data import OverlappedCollector, Prefetcher, record_bytes, ring_device
from torchrl_glam.data.replay import make_replay as make_replay_views
from torchrl_glam.envs import PROTOCOLS, GLAMImaginedEnv, make_atari_env
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, SlidingWindow, make_actor, make_critic
from torchrl_glam.modules.actor_critic import CriticModule
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss
from torchrl_glam.training import PolicyUpdate, WorldModelUpdate, make_policy_update, make_world_model_update

PRECISIONS = {Precision.float32: torch.float32, Precision.bfloat16: torch.bfloat16}


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_env(config: GLAMConfig, *, seed: int | None = None) -> EnvBase:
    """The real environment, on the CPU; ``config.seed`` unless another is given."""
    return make_atari_env(
        config.env.name,
        protocol=config.env.protocol.value,
        frame_skip=config.env.frame_skip,
        seed=config.seed if seed is None else seed,
    )


def num_evaluation_episodes(config: GLAMConfig) -> int:
    """``evaluation.episodes``, or the protocol's number."""
    return config.evaluation.episodes or PROTOCOLS[config.env.protocol.value].evaluation_episodes


def make_world_model(config: GLAMConfig, action_spec: TensorSpec, device: torch.device) -> GLAMWorldModel:
    """The world model, in eval mode: only its update trains BatchNorm."""
    options, backbone = config.world_model, config.world_model.dynamics
    dynamics = GLAMDynamics(
        backbone.width,
        global_layers=backbone.global_layers,
        local_layers=backbone.local_layers,
        window=backbone.window,
        post_norm=backbone.post_norm,
        d_state=backbone.d_state,
        d_conv=backbone.d_conv,
        expand=backbone.expand,
        backend=backbone.backend,
    )
    world_model = GLAMWorldModel(
        action_spec.shape[-1],
        dynamics,
        channels=options.channels,
        num_categoricals=options.num_categoricals,
        num_classes=options.num_classes,
        head_width=options.head_width,
        unimix=options.unimix,
    )
    return world_model.to(device).eval()


def make_agent(
    config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec
) -> tuple[ProbabilisticActor, CriticModule]:
    """Actor and critic, on the world model's device."""
    device = next(world_model.parameters()).device
    sizes = (world_model.state_size, world_model.dynamics.width)
    hidden = {"hidden": config.agent.hidden, "num_layers": config.agent.num_layers}
    actor = make_actor(*sizes, action_spec.to(device), **hidden)
    return actor.to(device), make_critic(*sizes, **hidden).to(device)


def make_policy(
    config: GLAMConfig, world_model: GLAMWorldModel, actor: TensorDictModuleBase, action_spec: TensorSpec
) -> GLAMPolicy:
    """The policy that acts in the real environment."""
    device = next(world_model.parameters()).device
    return GLAMPolicy(
        world_model,
        actor,
        action_spec.to(device),
        context_length=config.agent.context_length,
        sees=config.agent.sees.value,
    )


def make_collector(config: GLAMConfig, env: EnvBase, policy: GLAMPolicy) -> Collector | OverlappedCollector:
    """One real step per iteration; uniform actions during the warm-up."""
    if config.training.overlap:
        return OverlappedCollector(
            env,
            policy,
            total_frames=config.total_frames,
            init_random_frames=config.training.warmup_frames,
            policy_device=next(policy.parameters()).device,
        )
    return Collector(
        env,
        policy,
        frames_per_batch=1,
        total_frames=config.total_frames,
        init_random_frames=config.training.warmup_frames,
        policy_device=next(policy.parameters()).device,
        env_device="cpu",
        storing_device="cpu",
        auto_register_policy_transforms=True,
    )


def make_replay(config: GLAMConfig, env: EnvBase, device: torch.device) -> tuple[TensorDictReplayBuffer, Prefetcher]:
    """The replay's two views: sequences for the world model (and ``extend``), contexts for imagination.

    100 000 frames of 64x64 take 1.2 GB, of ``device`` if ``replay.device`` says so. Contexts come out on ``device``.
    """
    capacity = min(config.replay.capacity, config.total_frames)
    place = ring_device(config.replay.device.value, device, capacity * record_bytes(env))
    pinned = device.type == "cuda" and place.type == "cpu"
    sequences, contexts = make_replay_views(
        capacity,
        sequences=(config.replay.batch_size, config.replay.batch_length),
        contexts=(config.imagination.batch_size, config.imagination.context_length),
        newest=config.replay.newest,
        device=place,
        pin_memory=pinned,
    )
    return sequences, Prefetcher(contexts, device, threaded=pinned)


def make_imagined_env(config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec) -> GLAMImaginedEnv:
    """The world model as an environment."""
    sliding = config.imagination.memory is ImaginedMemory.sliding
    dynamics = SlidingWindow(world_model.dynamics, config.imagination.window) if sliding else None
    return GLAMImaginedEnv(
        world_model,
        action_spec,
        batch_size=config.imagination.batch_size,
        dynamics=dynamics,
        compiled=config.training.compile,
    )


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
    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(config.model_optimizer, trained)
    return make_world_model_update(
        loss,
        optimizer,
        config.model_optimizer.max_norm,
        precision=PRECISIONS[config.training.precision],
        compile=_compile_updates(config, trained[0].device),
    )


def make_policy_trainer(
    config: GLAMConfig, env: GLAMImaginedEnv, actor: ProbabilisticActor, critic: CriticModule
) -> PolicyUpdate:
    """Losses, slow critic, return norm and optimizer of the agent, as one update."""
    options = config.agent
    return_norm = PercentileValueNorm(rate=options.return_norm_rate, device=env.device)
    actor_loss = A2CLoss(
        actor, critic, critic_coeff=None, entropy_coeff=options.entropy_coeff, advantage_norm=return_norm
    )
    critic_loss = GLAMCriticLoss(
        critic, critic.bins, gamma=options.gamma, lmbda=options.lmbda, bootstrap=options.bootstrap.value
    )
    optimizer = make_optimizer(config.agent_optimizer, [*actor.parameters(), *critic.parameters()])
    slow_critic = SoftUpdate(critic_loss, tau=options.slow_critic_rate)
    return make_policy_update(
        env,
        actor,
        actor_loss,
        critic_loss,
        return_norm,
        slow_critic,
        optimizer,
        config.agent_optimizer.max_norm,
        start=_make_batch_start(config, env) if config.imagination.starts is Starts.batch else None,
        precision=PRECISIONS[config.training.precision],
        compile=_compile_updates(config, env.device),
    )


def _make_batch_start(config: GLAMConfig, env: GLAMImaginedEnv) -> Callable[[TensorDictBase], TensorDictBase]:
    """From the world model's last batch to starts within it."""
    number, first = config.imagination.batch_size, config.model_loss.first_valid
    return lambda batch: env.start_within(batch["state"], batch["action"], number=number, first=first)


def _compile_updates(config: GLAMConfig, device: torch.device) -> bool:
    """On a CPU convolutions and matrix products are 85 % of the world model's update: compiled, it takes as long."""
    return config.training.compile and device.type == "cuda"
