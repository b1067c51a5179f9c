"""Objectives that learn from each imagined rollout once it is there: A2C, PPO, REINFORCE and yours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import SoftUpdate

from torchrl_glam.machine.compilation import COMPILED_PER_HORIZON
from torchrl_glam.modules.actor_critic import make_value
from torchrl_glam.modules.signature import passes_on
from torchrl_glam.objectives.batch import check_keys, missing_key
from torchrl_glam.objectives.returns import check_bootstrap, lambda_return, make_lambda_estimator
from torchrl_glam.training.metrics import add_missing, policy_entropy
from torchrl_glam.training.objective import Objective
from torchrl_glam.training.steps import check_terms, trained_parameters


class OnPolicyObjective(Objective):
    """Imagine a rollout, estimate its advantages once, then take gradient steps on it.

    The loss is one on actor and critic, as TorchRL's A2C, PPO and REINFORCE, or one of the user's.

    Args:
        inputs, options: as for every :class:`Objective`.
        epochs: passes over the rollout.
        minibatches: gradient steps in each pass; with more than 1, each on transitions ``[b*n / minibatches]`` drawn
            without replacement.
    """

    shown: ClassVar[Mapping[str, str]] = {"loss_value": "critic", "loss_critic": "critic"}
    target: SoftUpdate | None

    @passes_on(Objective)
    def __init__(self, *inputs: Any, epochs: int = 1, minibatches: int = 1, **options: Any) -> None:
        super().__init__(*inputs, **options)
        check_bootstrap(self.agent.bootstrap)
        self.epochs, self.minibatches = epochs, minibatches
        self._make_losses()
        self._run = torch.compile(self._take_terms, **COMPILED_PER_HORIZON) if self.compile else self._take_terms

    def _make_losses(self) -> None:
        """Make critic and losses, and set what is trained."""
        self.critic = self.make_critic(make_value)
        self._estimator = make_lambda_estimator(self.agent.gamma, self.agent.lmbda, device=self.env.device)
        loss = self.make_loss(self.critic)
        self.losses, self.target = [loss], self.make_target(loss)
        self.networks = {"actor": self.actor, "critic": self.critic}
        if not set(trained_parameters(loss)) <= set(trained_parameters(*self.networks.values())):
            self.networks["loss"] = loss

    def estimate(self, rollout: TensorDictBase) -> dict[str, Tensor]:
        """Write ``advantage`` and ``value_target`` into the rollout ``[b n]``, and return metrics."""
        bootstrap, lmbda = self.agent.bootstrap, self.agent.lmbda
        target, value = lambda_return(
            self._value, rollout, self._estimator, bootstrap=bootstrap, lmbda=lmbda, consecutive=True
        )
        rollout.update({"state_value": value, "value_target": target, "advantage": target - value})
        return {"value_error": rollout["advantage"].abs().mean()}

    def _value(self, states: TensorDictBase) -> Tensor:
        return self.critic(states.select(*self.critic.in_keys)).get("state_value")

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :meth:`Objective.terms`."""
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
                yield add_missing(terms.update(self.real_terms(data)), metrics)
                if self.target is not None:
                    self.target.step()

    def real_terms(self, data: TensorDictBase) -> dict[str, Tensor]:
        """Return further losses, on the real data themselves; none by default."""
        return {}

    def _take_terms(self, batch: TensorDictBase) -> TensorDictBase:
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
    """Return the missing entry that a TensorDict was asked for, if that is the error."""
    found = re.match(r"key \"(.+?)\" not found in TensorDict", str(error.args[0] if error.args else ""))
    return found[1] if found else None
