"""Which prediction is held against which step: a world model that knows the reward, if it is asked at the right one."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.tools.diagnosis.predictions import predict
from torchrl_glam.tools.diagnosis.steps import join_steps

NUMBER, ENDS = 12, (4, 11)


class Knowing(nn.Module):
    """A world model and its transition: the belief is the last token, that is the action, which tells the reward."""

    def __init__(self) -> None:
        super().__init__()
        self.world_model, self.dynamics = self, self

    def embedding(self, state: Tensor, action: Tensor) -> Tensor:
        """The action, and the latent."""
        return torch.cat([action, state], -1)

    def make_tokens(self, state: Tensor, action: Tensor, is_init: Tensor) -> Tensor:
        """The same; an episode's first step is not marked."""
        return self.embedding(state, action)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """The last token; the memory is how many there were."""
        return tokens[:, -1], TensorDict({"length": torch.full(tokens.shape[:1], tokens.shape[1])}, tokens.shape[:1])

    def read_context(self, state: Tensor, action: Tensor, is_init: Tensor) -> tuple[Tensor, Tensor, TensorDict]:
        """The last token, and what is imagined after it."""
        belief, memory = self.prefill(self.make_tokens(state, action, is_init))
        return self.predict_state(belief), belief, memory

    def predict_state(self, belief: Tensor) -> Tensor:
        """-1: imagined."""
        return torch.full_like(belief[:, :1], -1)

    def forward(self, state: Tensor, action: Tensor, memory: TensorDict) -> tuple[Tensor, Tensor, TensorDict]:
        """A step on."""
        belief = self.embedding(state, action)
        return self.predict_state(belief), belief, memory + 1

    def reward_head(self, belief: Tensor) -> Tensor:
        """The action."""
        return belief[..., :1]

    def termination_head(self, belief: Tensor) -> Tensor:
        """The latent."""
        return belief[..., 1:]


Knowing.reward_head.bins = torch.zeros(1)  # type: ignore[attr-defined]
Knowing.reward_head.decode = lambda logits: 100 + logits  # type: ignore[attr-defined]


@pytest.fixture
def steps():
    """Two episodes, of 5 and 7 steps; the action is the step's number, the reward 100 more."""
    number = torch.arange(NUMBER).float()[:, None]
    done = torch.zeros(NUMBER, 1, dtype=torch.bool)
    done[list(ENDS)] = True
    records = {"pixels": torch.zeros(NUMBER, 8, 8, 3, dtype=torch.uint8), "action": number}
    following = {"reward": 100 + number, "done": done, "terminated": done, "life_loss": done}
    return join_steps([TensorDict({**records, "next": following}, [NUMBER])])


def test_predictions_meet_the_rewards_of_their_steps(steps):
    context, horizon = 2, 3
    last = steps.starts(context + horizon) + context - 1
    assert last.tolist() == [1, 6, 7, 8]
    latents = 1000 + torch.arange(NUMBER).float()[:, None]
    found = predict(Knowing(), latents, steps, last, context, horizon)
    assert torch.equal(found["reward"], steps.reward[last[:, None] + torch.arange(horizon + 1)])
    assert torch.equal(found["ending"][:, 0], latents[last, 0]), "at first from the real latent"
    assert (found["ending"][:, 1:] == -1).all(), "then from imagined ones"


def test_windows_stay_within_an_episode(steps):
    assert steps.ends.nonzero().flatten().tolist() == [4, 11]
    assert steps.starts(5).tolist() == [0, 5, 6, 7]
    assert steps.starts(1).tolist() == list(range(NUMBER))
    assert steps.starts(8).tolist() == []
    assert steps.starts(20).tolist() == []


def test_environments_do_not_run_on_into_each_other(steps):
    record = {"pixels": steps.observation["pixels"], "action": steps.action}
    flags = torch.zeros(NUMBER, 1, dtype=torch.bool)
    following = {"reward": steps.reward[:, None], "done": flags, "terminated": flags, "life_loss": flags}
    played = TensorDict({**record, "next": following}, [NUMBER])
    joined = join_steps([played, played])
    assert joined.ends.nonzero().flatten().tolist() == [NUMBER - 1, 2 * NUMBER - 1]
    assert joined.starts(NUMBER).tolist() == [0, NUMBER]


def test_predictions_are_those_that_the_loss_trains(make_world_model, make_batch):
    """A second witness: the world model's own forward pass over the whole window, which ``GLAMModelLoss`` reads."""
    world_model, batch = make_world_model(), make_batch(batch=1, time=6)
    batch["next", "done"].zero_()
    steps = join_steps([batch[0]])
    with torch.no_grad():
        outputs = world_model(batch.select("pixels", "action"))
    transition = LatentTransition(world_model, world_model.dynamics)
    found = predict(transition, outputs["state"][0], steps, torch.tensor([5]), 6, 0)
    wanted = world_model.reward_head.decode(outputs["reward_logits"])[0, -1]
    torch.testing.assert_close(found["reward"][0], wanted)
    torch.testing.assert_close(found["ending"][0], outputs["termination_logits"][0, -1])
    logs, bins = outputs["reward_logits"][0, -1].double(), world_model.reward_head.bins.double()
    expected = (logs.softmax(-1) * bins.sign() * (bins.abs().exp() - 1)).sum()
    torch.testing.assert_close(found["expected"][0, 0], expected, rtol=1e-5, atol=0)  # of float32 logits
    torch.testing.assert_close(found["belief"][0], outputs["belief"][0, -1])
