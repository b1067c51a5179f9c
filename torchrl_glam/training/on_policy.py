"""Objectives that learn from each imagined rollout once it is there: GLAM's own, A2C, PPO, REINFORCE and yours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.modules import PercentileValueNorm
from torchrl.objectives import LossModule, TargetNetUpdater

from torchrl_glam.envs.imagined import GLAMImaginedEnv
from torchrl_glam.machine.compilation import COMPILED
from torchrl_glam.objectives import GLAMCriticLoss
from torchrl_glam.objectives.batch import check_keys, missing_key
from torchrl_glam.objectives.returns import lambda_return, make_lambda_estimator
from torchrl_glam.training.metrics import add_missing, policy_entropy
from torchrl_glam.training.policy import Start
from torchrl_glam.training.steps import check_terms

Estimate = Callable[[TensorDictBase], dict[str, Tensor]]
"""Writes ``advantage`` and ``value_target`` into a rollout [b n], and returns metrics."""


class OnPolicyObjective:
    """Imagine a rollout, estimate its advantages once, then take gradient steps on it.

    Args:
        env: the imagined environment.
        actor: acts in it.
        losses: TorchRL losses, whose terms are taken together.
        estimate: writes ``advantage`` and ``value_target`` into the rollout ``[b n]``, and returns metrics.
        start: from real data to where imagination starts.
        target: moves the losses' target parameters after each step.
        epochs: passes over the rollout.
        minibatches: gradient steps in each pass; with more than 1, each on transitions ``[b*n / minibatches]`` drawn
            without replacement.
        compile: compile the losses, forward and backward.
    """

    def __init__(
        self,
        env: GLAMImaginedEnv,
        actor: TensorDictModuleBase,
        losses: Sequence[LossModule],
        estimate: Estimate,
        *,
        start: Start,
        target: TargetNetUpdater | None = None,
        epochs: int = 1,
        minibatches: int = 1,
        compile: bool = False,
    ) -> None:
        self.env, self.actor, self.losses, self.start, self.target = env, actor, losses, start, target
        self.estimate, self.epochs, self.minibatches, self.buffer = estimate, epochs, minibatches, None
        # Not as one graph: torch 2.13 cannot trace torchrl 0.14.1's OneHotCategorical.
        self._run = torch.compile(self._losses, **{**COMPILED, "fullgraph": False}) if compile else self._losses

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :class:`~torchrl_glam.training.policy.Objective`."""
        with torch.no_grad():
            rollout = self.env.imagine(self.start(data), self.actor, horizon)
            metrics = {**policy_entropy(rollout), **self.estimate(rollout)}
        metrics["imagined_reward"] = rollout["next", "reward"].mean()
        metrics["imagined_return"] = rollout["value_target"].mean()
        for loss in self.losses:
            check_keys(loss, rollout)
        for _ in range(self.epochs):
            for batch in self._batches(rollout):
                try:
                    terms = self._run(batch)
                except KeyError as error:  # of a loss that does not say what it reads, or one of its own
                    if key := missing_entry(error):
                        raise missing_key(self.losses[0], key, rollout) from error
                    raise
                check_terms(terms)
                yield add_missing(terms, metrics)
                if self.target is not None:
                    self.target.step()

    def _losses(self, batch: TensorDictBase) -> TensorDictBase:
        first, *others = (loss(batch) for loss in self.losses)
        for terms in others:
            first.update(terms)
        return first

    def _batches(self, rollout: TensorDictBase) -> Sequence[TensorDictBase]:
        if self.minibatches == 1:
            return [rollout]
        transitions = rollout.reshape(-1)
        order = torch.randperm(len(transitions), device=transitions.device)
        return [transitions[part] for part in order.chunk(self.minibatches)]


def missing_entry(error: KeyError) -> str | None:
    """The entry that a TensorDict was asked for in vain, if that is the error."""
    found = re.match(r"key \"(.+?)\" not found in TensorDict", str(error.args[0] if error.args else ""))
    return found[1] if found else None


def make_glam_estimate(critic_loss: GLAMCriticLoss, return_norm: PercentileValueNorm) -> Estimate:
    """GLAM's (STORM's) advantages: lambda returns under critic and slow critic; the norm sees each rollout once."""

    def estimate(rollout: TensorDictBase) -> dict[str, Tensor]:
        critic_loss.estimate(rollout)
        return_norm.update(rollout["value_target"])
        return {"return_scale": return_norm.scale().squeeze(-1)}

    return estimate


def make_lambda_estimate(
    critic: TensorDictModuleBase, *, gamma: float, lmbda: float, bootstrap: str = "next"
) -> Estimate:
    """Advantages from lambda returns under ``critic``; ``bootstrap`` as for ``GLAMCriticLoss``."""
    estimator = make_lambda_estimator(gamma, lmbda)

    def value_of(states: TensorDictBase) -> Tensor:
        return critic(states.select(*critic.in_keys)).get("state_value")

    def estimate(rollout: TensorDictBase) -> dict[str, Tensor]:
        target, value = lambda_return(value_of, critic.in_keys, rollout, estimator, bootstrap=bootstrap, lmbda=lmbda)
        rollout.update({"state_value": value, "value_target": target, "advantage": target - value})
        return {"value_error": rollout["advantage"].abs().mean()}

    return estimate
