"""The unroll term of the world-model loss: imagined steps under the actions really taken, against what came.

``b`` batch, ``t`` time, ``k c`` categoricals and classes, ``sg`` stops the gradient.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import GLAMWorldModel
from torchrl_glam.objectives import functional as formulas
from torchrl_glam.objectives.term import Term


class UnrollTerm(Term):
    """``mean_i weight KL(sg(q_i) || p_i)`` and the losses of reward and termination, of steps that are imagined.

    They are the last ``steps`` latents of a sequence. Only their actions are given: each prediction starts from the one
    before. The other terms predict one step from real latents; here the model learns to go on from its own. This goes
    beyond GLAM, after MuZero (arXiv 1911.08265) and TD-MPC2 (arXiv 2310.16828). What follows a termination does not
    count. Gradients flow through all steps.

    Args:
        steps: predicted latents, at the end of each sequence.
        weight: of the KL; reward and termination weigh 1.
    """

    metrics = ("kl_unroll",)

    def __init__(self, steps: int, weight: float = 0.5) -> None:
        super().__init__(unroll=1.0)
        self.steps, self.weight = steps, weight

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        time = outputs["state"].shape[1]
        if (start := time - self.steps) <= first:
            raise UsageError(
                f"unroll_steps is {self.steps}, of sequences of {time}: {first + 1} steps have to come before; sample "
                "longer sequences, or unroll fewer steps"
            )
        belief, prior = self._unroll(world_model, outputs, start)
        outcome, posterior = targets[:, start - 1 : -1], outputs["posterior_logits"][:, start:].detach()
        ended = outcome["termination"].cumsum(1) > 0
        before = torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], 1)
        kl = formulas.kl_to_target(posterior, _constant(prior, ended.unsqueeze(-1)))
        reward = world_model.reward_head.loss(_constant(world_model.reward_head(belief), before), outcome["reward"])
        logits = _constant(world_model.termination_head(belief), before)
        termination = formulas.termination_loss(logits, outcome["termination"])
        return {"kl_unroll": kl.detach(), "unroll": self.weight * kl + reward + termination}

    def _unroll(self, world_model: GLAMWorldModel, outputs: TensorDictBase, start: int) -> tuple[Tensor, Tensor]:
        """Return beliefs ``[b steps d]`` and priors ``[b steps k c]`` of the latents from ``start`` on."""
        real, is_init = outputs[:, :start], outputs.get("is_init", None)
        tokens = world_model.make_tokens(real["state"], real["action"], None if is_init is None else is_init[:, :start])
        belief, memory = world_model.dynamics.prefill(tokens)
        prior = world_model.predict_logits(belief, real["state"][:, -1])
        beliefs, priors = [belief], [prior]
        for action in outputs["action"][:, start:-1].unbind(1):
            state = world_model.draw_prior(prior)
            belief, memory = world_model.dynamics.step(world_model.embedding(state, action), memory)
            prior = world_model.predict_logits(belief, state)
            beliefs.append(belief)
            priors.append(prior)
        return torch.stack(beliefs, 1), torch.stack(priors, 1)


def _constant(predicted: Tensor, where: Tensor) -> Tensor:
    """Return ``predicted``, without a gradient where a flag is set."""
    return torch.where(where, predicted.detach(), predicted)
