"""Plans on the emulator and in imagination: what is played, what is put back, and how they are ranked."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.envs import make_atari_env
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.diagnosis.plans import (
    HELD,
    LENGTH,
    PlannedMoments,
    judge_plans,
    make_plans,
    play_plans,
    rank_plans,
)
from torchrl_glam.tools.diagnosis.steps import join_steps

ACTIONS = 3


def test_plans_hold_each_action_for_each_time():
    plans = make_plans(ACTIONS)
    assert plans.shape == (1 + 2 * len(HELD), LENGTH)
    assert not plans[0].any()
    assert [(plan.max().item(), plan.count_nonzero().item()) for plan in plans[1:]] == [
        (1, 4),
        (1, 16),
        (2, 4),
        (2, 16),
    ]
    assert all(plan[:number].all() for plan, number in zip(plans[1:], (4, 16, 4, 16), strict=True))


def test_the_game_goes_on_as_if_no_plan_had_been_played():
    def play(with_plans):
        env = make_atari_env("ALE/Pong-v5", seed=3)
        torch.manual_seed(0)
        frames, now = [], env.reset()
        for step in range(40):
            if with_plans and step in (10, 30):
                assert torch.equal(play_plans(env, make_plans(6)[:3]), play_plans(env, make_plans(6)[:3]))
            _, now = env.step_and_maybe_reset(env.rand_action(now))
            frames.append(now["pixels"])
        return torch.stack(frames)

    assert torch.equal(play(True), play(False))


def test_rewards_of_plans_are_those_of_the_game():
    """Pong's first point is lost by whoever does nothing; plans from shortly before earn it."""
    env = make_atari_env("ALE/Pong-v5", seed=0)
    now, still = env.reset(), torch.eye(6, dtype=torch.long)[0]
    for step in range(200):
        before = play_plans(env, make_plans(6)[:1]) if step >= 40 and step % 10 == 0 else None
        if before is not None and before.any():
            break
        _, now = env.step_and_maybe_reset(now.set("action", still))
    assert before[0].sum() == -1
    waited = int(before[0].nonzero()[0, 0])
    for _ in range(waited + 1):
        stepped, now = env.step_and_maybe_reset(now.set("action", still))
    assert stepped["next", "reward"] == -1


def test_only_the_ale_saves_its_state():
    with pytest.raises(UsageError, match=r"plans=5: CartPole-v1 is no ALE game, .* leave plans out"):
        PlannedMoments(5, 100, "CartPole-v1")


def test_pairs_in_the_right_order():
    earned = torch.tensor([[1.0, 0.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    imagined = torch.tensor([[0.3, 0.3, 0.1, 0.2], [9.0, 0.0, 1.0, 2.0]])
    found = rank_plans(imagined, earned)  # of 5 pairs: a tie, right, right, right, wrong
    assert (found.moments, found.pairs, found.ranking) == (2, 5, pytest.approx(3.5 / 5))
    assert rank_plans(imagined, torch.zeros(2, 4)).ranking is None


def test_moments_are_spread_and_skip_ends():
    with pytest.raises(UsageError, match="plans=5 moments of fresh=4 steps"):
        PlannedMoments(5, 4, "ALE/Pong-v5")
    env = make_atari_env("ALE/Pong-v5", seed=0)
    env.reset()
    planned = PlannedMoments(3, 6, "ALE/Pong-v5")
    for step in range(6):
        done = torch.tensor([step == 3])
        planned.watch(env, step, TensorDict({"action": torch.zeros(2), "next": {"done": done}}))
    assert planned.after == [1, 5]
    assert [rewards.shape for rewards in planned.rewards] == 2 * [(1 + len(HELD), LENGTH)]


class Counting(nn.Module):
    """A world model that knows that action 1 earns 1 each time, and 2 loses 1; it is all parts in one."""

    def __init__(self) -> None:
        super().__init__()
        self.world_model = self
        self.seen: list[Tensor] = []

    def read_context(self, state: Tensor, action: Tensor, is_init: Tensor) -> tuple[Tensor, Tensor, TensorDict]:
        """What is read is noted."""
        self.seen.append(state)
        return -state[:, -1], action[:, -1], TensorDict({}, [len(state)])

    def forward(self, state: Tensor, action: Tensor, memory: TensorDict) -> tuple[Tensor, Tensor, TensorDict]:
        """The belief is the action; imagination starts from the real latent."""
        assert (state > 0).all()
        return state, action, memory

    def reward_head(self, belief: Tensor) -> Tensor:
        """1 for action 1, -1 for action 2."""
        return belief[..., 1:2] - belief[..., 2:3]


Counting.reward_head.decode = lambda logits: logits  # type: ignore[attr-defined]


@pytest.mark.parametrize(("sign", "ranking"), [(1, 1.0), (-1, 0.0)])
def test_imagined_plans_are_compared_with_what_the_same_plans_earned(sign, ranking):
    number, plans = 12, make_plans(ACTIONS)
    done = torch.zeros(number, 1, dtype=torch.bool)
    done[6] = True
    following = {"reward": torch.zeros(number, 1), "done": done, "terminated": done, "life_loss": done}
    action = torch.eye(ACTIONS)[torch.zeros(number, dtype=torch.long)]
    steps = join_steps([TensorDict({"pixels": torch.zeros(number, 1), "action": action, "next": following}, [number])])
    planned = PlannedMoments(4, number, "ALE/Pong-v5")
    planned.after = [1, 5, 7, 10]  # with 3 steps before and one after in the episode: 5 and 10
    planned.rewards = 4 * [sign * ((plans == 1).float() - (plans == 2).float())]
    model, latents = Counting(), 1 + torch.arange(float(number))[:, None]
    found = judge_plans(model, latents, steps, planned, 3)
    assert (found.moments, found.pairs, found.ranking) == (2, 20, ranking)
    assert model.seen[0].flatten().tolist() == [4.0, 5.0, 6.0, 9.0, 10.0, 11.0]
    planned.after = [1, 1, 1, 1]
    assert judge_plans(model, latents, steps, planned, 3) is None
