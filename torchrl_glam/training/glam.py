"""GLAM's own objective, which is STORM's: how actor and critic learn from an imagined rollout."""

from __future__ import annotations

import math

from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import OneHot
from torchrl.objectives import SoftUpdate

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.actor_critic import make_critic
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.objectives import GLAMCriticLoss
from torchrl_glam.objectives.returns import make_return_norm
from torchrl_glam.training.metrics import policy_entropy
from torchrl_glam.training.on_policy import OnPolicyObjective

ENTROPY_RATE, ENTROPY_COEFFS = 0.02, (1e-6, 0.1)  # per update; bounds


class GLAMObjective(OnPolicyObjective):
    """GLAM's and STORM's agent: REINFORCE on normalised advantages, a two-hot critic with a slow copy.

    The actor's loss is TorchRL's A2C loss without a critic; the critic's is
    :class:`~torchrl_glam.objectives.GLAMCriticLoss`. The norm of returns sees each rollout once.

    Args:
        inputs, options: as for :class:`OnPolicyObjective`.
    """

    def _make_losses(self) -> None:
        if self.agent.entropy_target is not None and not isinstance(self.env.action_spec, OneHot):
            raise UsageError(
                "agent.entropy_target is for discrete actions: leave it out, and choose agent.entropy_coeff"
            )
        agent, self.critic = self.agent, self.make_critic(make_critic)
        self.return_norm = make_return_norm(
            agent.return_percentiles, rate=agent.return_norm_rate, device=self.env.device
        )
        actor_loss = self.make_loss(
            self.critic, critic_coeff=None, entropy_coeff=agent.entropy_coeff, advantage_norm=self.return_norm
        )
        self.critic_loss = GLAMCriticLoss(self.critic, gamma=agent.gamma, lmbda=agent.lmbda, bootstrap=agent.bootstrap)
        self.losses = [actor_loss, self.critic_loss]
        self.target = SoftUpdate(self.critic_loss, tau=agent.slow_critic_rate)  # moves the critic's slow copy
        self.networks = {"actor": self.actor, "critic": self.critic}

    def estimate(self, rollout: TensorDictBase) -> dict[str, Tensor]:
        """Write lambda returns under critic and slow critic, and advantages; see :meth:`OnPolicyObjective.estimate`."""
        self.critic_loss.estimate(rollout, consecutive=True)
        self.return_norm.update(rollout["value_target"])
        metrics = {"return_scale": self.return_norm.scale().squeeze(-1)}
        if self.agent.entropy_target is not None:
            metrics["entropy_coeff"] = self._adapt_entropy(rollout, self.agent.entropy_target)
        return metrics

    def _adapt_entropy(self, rollout: TensorDictBase, target: float) -> Tensor:
        """Raise the entropy's coefficient while the policy has less than the target, lower it while it has more.

        One coefficient does not suit a whole run: advantages grow and shrink with what the world model predicts. This
        goes beyond GLAM; SAC (arXiv 1812.05905, section 5) adapts its temperature for the same reason.
        """
        coeff: Tensor = self.losses[0].entropy_coeff
        most = sum(map(math.log, block_sizes(self.env.action_spec)))
        share = policy_entropy(rollout)["entropy"] / most
        coeff.mul_((ENTROPY_RATE * (target - share)).exp()).clamp_(*ENTROPY_COEFFS)
        return coeff.clone()

    def real_terms(self, data: TensorDictBase) -> dict[str, Tensor]:
        """Return the critic's losses on the batch of the world model, if the agent wants them (DreamerV3).

        The returns are those of the rewards that really came, bootstrapped at the batch's end. A state is ``(z_t,
        h_{t-1})``, as in imagination.
        """
        if not (weight := self.agent.replay_value_coeff):
            return {}
        states = TensorDict({"state": data["state"][:, 1:], "belief": data["belief"][:, :-1]}, data[:, 1:].shape)
        outcome = data[:, 1:-1].select("reward", "terminated")
        rollout = states[:, :-1].set("next", states[:, 1:].update(outcome.set("done", outcome["terminated"])))
        terms = self.critic_loss(self.critic_loss.estimate(rollout, consecutive=True))
        return {f"{name}_replayed": weight * value for name, value in terms.items() if name.startswith("loss_")}
