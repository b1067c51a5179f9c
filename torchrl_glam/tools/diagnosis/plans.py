"""Plans: does the world model know what actions lead to? What the emulator answers, against what is imagined.

From a moment of a game, several plans are played on the emulator, whose state is put back after each, and the same
plans are imagined. A model that foresees that points are lost, but not which actions lose them, is of no use to an
agent, and no comparison under the actions really taken shows it.

``m`` moments, ``p`` plans, ``h`` steps of a plan, ``a`` action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from torchrl_glam.envs.gymnasium import find_spec, is_ale
from torchrl_glam.envs.history import game_state, restore_game, single_game
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.tools.diagnosis.predictions import read_contexts
from torchrl_glam.tools.diagnosis.steps import RealSteps
from torchrl_glam.tools.imagination import imagine_actions

HELD = (4, 16)  # steps for which a plan's action is held
LENGTH = 24  # steps of a plan; the rest of them take the first action, which does nothing on the ALE
DRAWS = 4  # imaginations of each plan


@dataclass(frozen=True)
class PlansPart:
    """How well plans are ranked.

    Args:
        moments: from which plans were played.
        pairs: of plans from the same moment of which one earned more.
        ranking: the share of pairs of which the model imagines more reward for the better one, ties counted by half;
            0.5 is chance. ``None`` without a pair.
    """

    moments: int
    pairs: int
    ranking: float | None


def make_plans(num_actions: int) -> Tensor:
    """Return the numbers of the actions ``[p h]``: nothing at all, and each other action held for each of ``HELD``."""
    plans = [torch.zeros(LENGTH, dtype=torch.long)]
    for action in range(1, num_actions):
        for held in HELD:
            plans.append(torch.where(torch.arange(LENGTH) < held, action, 0))
    return torch.stack(plans)


class PlannedMoments:
    """Moments of play at which plans are played, evenly spread.

    Args:
        number: of moments.
        steps: of play.
        name: of the environment.

    Attributes:
        after: the steps after which plans were played, so far.
        rewards: what they earned, ``[p h]`` each.

    Raises:
        UsageError: if there are more moments than steps, or the environment is no ALE game, whose state can be saved.
    """

    def __init__(self, number: int, steps: int, name: str) -> None:
        if not is_ale(find_spec(name)):
            raise UsageError(f"plans={number}: {name} is no ALE game, and only these save their state: leave plans out")
        if number > steps:
            raise UsageError(f"plans={number} moments of fresh={steps} steps: give more fresh steps, or fewer plans")
        self.every = steps // number
        self.after: list[int] = []
        self.rewards: list[Tensor] = []

    def watch(self, env: EnvBase, step: int, record: TensorDictBase) -> None:
        """Play plans after this step, if it is one of the moments and the episode goes on; see :func:`play_plans`."""
        if (step + 1) % self.every == 0 and not record["next", "done"].any():
            self.after.append(step)
            self.rewards.append(play_plans(env, make_plans(record["action"].shape[-1])))


def play_plans(env: EnvBase, plans: Tensor) -> Tensor:
    """Play each plan in a single ALE game, from its state now, which is put back.

    Returns:
        The rewards ``[p h]``, 0 after the end of an episode.
    """
    game = single_game(env)
    assert game is not None
    state, rewards = game_state(game), torch.zeros(plans.shape)
    for plan, earned in zip(plans.tolist(), rewards, strict=True):
        for step, action in enumerate(plan):
            _, reward, terminated, _, _ = game.step(action)
            earned[step] = float(reward)
            if terminated:
                break
        restore_game(game, state)
    return rewards


@torch.no_grad()
def judge_plans(
    transition: LatentTransition, latents: Tensor, steps: RealSteps, planned: PlannedMoments, context: int
) -> PlansPart | None:
    """Imagine the plans and compare.

    Args:
        transition: of the imagined environment.
        latents: ``[steps k*c]`` of all steps.
        steps: the real ones.
        planned: the moments, and what the plans earned.
        context: real steps that are read before.

    Returns:
        ``None`` if no moment has as many steps before it.
    """
    after = torch.tensor(planned.after)
    followed = torch.isin(after, steps.starts(context + 1) + context - 1)
    if not followed.any():
        return None
    after, rewards = after[followed], torch.stack(planned.rewards)[followed]
    size, head = steps.action.shape[-1], transition.world_model.reward_head
    plans, imagined = make_plans(size), torch.zeros(rewards.shape[:2])
    for plan, column in zip(plans, imagined.unbind(1), strict=True):
        actions = torch.nn.functional.one_hot(plan, size).to(latents).expand(len(after), -1, -1)
        for _ in range(DRAWS):
            start = read_contexts(transition, latents, steps, after, context)
            now = latents[(after + 1).to(latents.device)], start["belief"], start["memory"]
            _, beliefs = imagine_actions(transition, now, actions)
            column += head.decode(head(beliefs[:, 1:])).squeeze(-1).sum(1).cpu() / DRAWS
    return rank_plans(imagined, rewards.sum(-1))


def rank_plans(imagined: Tensor, earned: Tensor) -> PlansPart:
    """Compare the imagined with the earned rewards ``[m p]``.

    Examples:
        >>> import torch
        >>> rank_plans(torch.tensor([[0.2, -0.5, 0.1]]), torch.tensor([[1.0, 0.0, 1.0]]))
        PlansPart(moments=1, pairs=2, ranking=1.0)
    """
    better = earned[:, :, None] > earned[:, None, :]
    difference = (imagined[:, :, None] - imagined[:, None, :])[better]
    pairs = len(difference)
    right = (difference > 0).sum().item() + (difference == 0).sum().item() / 2
    return PlansPart(len(earned), pairs, right / pairs if pairs else None)
