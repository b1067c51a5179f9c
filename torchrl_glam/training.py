"""Update closures and evaluation; the loop is the example.

Metrics stay tensors on their device: no update synchronises a GPU with the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torch.optim import Optimizer
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType
from torchrl.modules import PercentileValueNorm
from torchrl.objectives import LossModule, TargetNetUpdater
from tqdm import tqdm

from torchrl_glam.compilation import COMPILED
from torchrl_glam.envs.imagined import GLAMImaginedEnv
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss, total_loss

WorldModelUpdate = Callable[[TensorDictBase], TensorDictBase]
PolicyUpdate = Callable[[TensorDictBase, int], TensorDictBase]


def checked_loss(terms: TensorDictBase) -> Tensor:
    """Sum the loss terms; on a CPU, where looking costs nothing, raise FloatingPointError if one is not finite."""
    loss = total_loss(terms)
    if loss.device.type == "cpu":
        check_finite(terms)
    return loss


def optimizer_step(loss: Tensor, parameters: Iterable[Tensor], optimizer: Optimizer, max_norm: float) -> Tensor:
    """Backward, clip the global gradient norm to ``max_norm``, step; return the norm before clipping (scalar)."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()
    return norm


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Autocast to ``precision``; float32 means none."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def make_world_model_update(
    loss: GLAMModelLoss,
    optimizer: Optimizer,
    max_norm: float,
    *,
    precision: torch.dtype = torch.float32,
    compile: bool = False,
) -> WorldModelUpdate:
    """Return ``update(batch [b t]) -> metrics``: one gradient step on the world model.

    BatchNorm is in training mode during the update only.

    Args:
        loss: the world model's loss.
        optimizer: over its parameters.
        max_norm: bound on their global gradient norm.
        precision: of matrix products and convolutions.
        compile: compile the loss, forward and backward.
    """
    parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    device = parameters[0].device
    run = torch.compile(loss, **COMPILED) if compile else loss

    def update(batch: TensorDictBase) -> TensorDictBase:
        loss.train()
        with autocast(device, precision):
            terms = run(batch)
        norm = optimizer_step(checked_loss(terms), parameters, optimizer, max_norm)
        loss.eval()
        return terms.detach().set("grad_norm", norm)

    loss.eval()
    return update


def make_policy_update(
    env: GLAMImaginedEnv,
    actor: TensorDictModuleBase,
    actor_loss: LossModule,
    critic_loss: GLAMCriticLoss,
    return_norm: PercentileValueNorm,
    slow_critic: TargetNetUpdater,
    optimizer: Optimizer,
    max_norm: float,
    *,
    start: Callable[[TensorDictBase], TensorDictBase] | None = None,
    precision: torch.dtype = torch.float32,
    compile: bool = False,
) -> PolicyUpdate:
    """Return ``update(data [b t], horizon) -> metrics``: imagine from real data, one step on the agent.

    Args:
        env: the imagined environment.
        actor: acts in it.
        actor_loss: any TorchRL policy loss that takes ``advantage`` from its input.
        critic_loss: writes the advantage, trains the critic.
        return_norm: the actor loss's advantage norm, updated here once per rollout.
        slow_critic: moves the critic loss's target parameters.
        optimizer: over the parameters of actor and critic.
        max_norm: bound on their global gradient norm.
        start: from ``data`` to where imagination starts; ``env.start`` on its pixels and actions if not given.
        precision: of matrix products and convolutions.
        compile: compile the losses, forward and backward.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    start = (lambda data: env.start(data["pixels"], data["action"])) if start is None else start

    def losses(rollout: TensorDictBase) -> TensorDictBase:
        return actor_loss(rollout).update(critic_loss(rollout))

    # Not as one graph: torch 2.13 cannot trace torchrl 0.14.1's OneHotCategorical.
    run = torch.compile(losses, **{**COMPILED, "fullgraph": False}) if compile else losses

    def update(data: TensorDictBase, horizon: int) -> TensorDictBase:
        with autocast(env.device, precision):
            with torch.no_grad():
                rollout = env.imagine(start(data), actor, horizon)
            critic_loss.estimate(rollout)
            return_norm.update(rollout["value_target"])
            terms = run(rollout)
        norm = optimizer_step(checked_loss(terms), parameters, optimizer, max_norm)
        slow_critic.step()
        return terms.detach().update({"grad_norm": norm, **rollout_metrics(rollout, return_norm)})

    return update


def rollout_metrics(rollout: TensorDictBase, return_norm: PercentileValueNorm) -> dict[str, Tensor]:
    """What an imagined rollout promises, and the scale of the advantages; scalars."""
    return {
        "imagined_reward": rollout["next", "reward"].mean(),
        "imagined_return": rollout["value_target"].mean(),
        "return_scale": return_norm.scale().squeeze(-1),
    }


def evaluate(
    env: EnvBase, policy: TensorDictModuleBase, episodes: int, *, greedy: bool = False, progress: bool = False
) -> list[float]:
    """Play whole episodes, one after the other, and return their undiscounted returns.

    Args:
        env: a real environment with ``episode_reward`` (``RewardSum``).
        policy: acts in it; its primers are added to the environment.
        episodes: how many.
        greedy: take the most likely action instead of a sample.
        progress: show a progress bar.
    """
    exploration = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    parameter = next(policy.parameters(), None)
    collector = Collector(
        env,
        policy,
        frames_per_batch=1,
        total_frames=-1,
        policy_device=None if parameter is None else parameter.device,
        env_device="cpu",
        storing_device="cpu",
        exploration_type=exploration,
        auto_register_policy_transforms=True,
    )
    returns: list[float] = []
    with tqdm(total=episodes, desc="evaluation", unit="episode", disable=not progress, file=sys.stdout) as bar:
        for step in collector:
            finished = episode_returns(step)
            returns += finished
            bar.update(len(finished))
            if len(returns) >= episodes:
                break
    collector.shutdown(close_env=False)
    return returns[:episodes]


def episode_returns(batch: TensorDictBase) -> list[float]:
    """Returns of the episodes that end in a batch of real steps."""
    return batch["next", "episode_reward"][batch["next", "done"]].tolist()


def check_finite(metrics: TensorDictBase) -> None:
    """Raise FloatingPointError with the names of the entries that are not finite."""
    bad = [key for key, value in metrics.items() if not torch.isfinite(value).all()]
    if bad:
        raise FloatingPointError(f"not finite: {', '.join(bad)}; the run stops, the weights written last stay")
