"""The parts of a diagnosis on data made by hand: rewards, frames, values, dreams, policies, probes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.modules import symexp

from torchrl_glam.tools.diagnosis.parts import (
    dream_part,
    ending_events,
    frame_errors,
    policy_part,
    reward_events,
    reward_means,
    reward_threshold,
    value_part,
    vector_errors,
)
from torchrl_glam.tools.diagnosis.probes import probe_rewards
from torchrl_glam.tools.diagnosis.steps import RealSteps
from torchrl_glam.tools.pictures.comparison import Comparison


def make_steps(reward, terminated=None, ends=None, pixels=None, vector=None):
    """Steps of one episode, whose last one is the last there is."""
    number = len(reward)
    none = torch.zeros(number, dtype=torch.bool)
    last = none.clone()
    last[-1] = True
    pixels = torch.zeros(number, 8, 8, 3, dtype=torch.uint8) if pixels is None else pixels
    return RealSteps(
        TensorDict({"pixels": pixels} if vector is None else {"observation": vector}, [number]),
        torch.eye(2)[torch.arange(number) % 2],
        reward,
        none if terminated is None else terminated,
        last if ends is None else ends,
    )


def test_a_reward_is_predicted_beyond_half_of_the_smallest():
    assert reward_threshold(torch.tensor([0.0, -4.0, 10.0])) == 2.0
    assert reward_threshold(torch.zeros(3)) is None
    real = torch.tensor([[0.0, 10.0], [-4.0, 0.0], [10.0, 0.0]])
    predicted = torch.tensor([[2.0, 2.1], [-3.0, 3.0], [-9.0, -1.0]])
    found = {(event.what, event.step): event for event in reward_events(real, predicted, 2.0)}
    assert len(found) == 6
    first = found["non-zero", 0].exact
    assert (first.real, first.said, first.found) == (2, 2, 2), "of any sign"
    first = found["positive", 0].exact
    assert (first.real, first.said, first.found) == (1, 0, 0), "10 was predicted as -9"
    first = found["negative", 0].exact
    assert (first.real, first.said, first.found) == (1, 2, 1)
    second = found["non-zero", 1]
    assert (second.exact.recall, second.exact.precision) == (1.0, 0.5)
    assert second.near.precision == 1.0, "3 came a step late"


def test_one_sign_is_told_of_once():
    events = reward_events(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1), 0.5)
    assert [event.what for event in events] == ["non-zero"]


def test_mean_rewards_where_there_is_one_and_where_there_is_none():
    (found,) = reward_means(
        torch.tensor([[0.0], [3.0], [1.0], [0.0]]), torch.tensor([[0.5], [1.0], [3.0], [1.5]]), torch.full((4, 1), 2.0)
    )
    assert (found.real, found.predicted, found.expected) == (1.0, 1.5, 2.0)
    assert (found.real_where_some, found.predicted_where_some, found.predicted_where_none) == (2.0, 2.0, 1.0)
    (found,) = reward_means(torch.zeros(2, 1), torch.ones(2, 1), torch.ones(2, 1))
    assert (found.real_where_some, found.predicted_where_some, found.predicted_where_none) == (None, None, 1.0)


def test_an_end_is_predicted_where_it_is_likelier_than_not():
    (event,) = ending_events(torch.tensor([[True], [False]]), torch.tensor([[0.1], [-0.1]]))
    assert (event.what, event.exact.found, event.exact.said) == ("termination", 1, 1)


def test_errors_where_it_moved():
    """Of four pixels one goes from black to white; imagination leaves it grey, and another one white."""
    context = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    real, imagined = context[:, None].clone(), context[:, None].clone()
    real[0, 0, 0, 0] = 255
    imagined[0, 0, 0, 0], imagined[0, 0, 1, 1] = 204, 255
    (found,) = frame_errors(Comparison({"real": real, "reconstructed": real.clone(), "imagined": imagined}, context))
    assert (found.step, found.share) == (1, 0.25)
    assert found.whole == pytest.approx({"reconstructed": 0, "imagined": 1.2 / 4, "context frame": 0.25})
    assert found.moved == pytest.approx({"reconstructed": 0, "imagined": 0.2, "context frame": 1})
    (still,) = frame_errors(Comparison({"real": context[:, None], "imagined": imagined}, context))
    assert (still.share, still.moved) == (0, {})


def test_errors_of_a_vector_are_in_standard_deviations():
    """One dimension swings by 1 in symlog space, one stays, one swings by .5; imagination is off by half of each."""
    real = torch.tensor([[1.0, 3.0, 0.5], [-1.0, 3.0, -0.5]]).repeat(4, 1)
    steps = make_steps(torch.zeros(8), vector=symexp(real))
    windows = real.reshape(2, 4, 3)
    off = windows + torch.tensor([0.5, 1.0, 0.25])
    frames = {"real": symexp(windows), "reconstructed": symexp(windows), "imagined": symexp(off)}
    found = vector_errors(Comparison(frames, symexp(windows[:, 0])), steps)
    assert [row.step for row in found] == [1, 2, 3, 4]
    assert found[0].whole == pytest.approx({"reconstructed": 0, "imagined": 0.5, "context frame": 0}, abs=1e-5)
    assert found[1].whole["context frame"] == pytest.approx(2)
    first, second, third = found[1].dimensions["imagined"]
    assert (first, second, third) == (pytest.approx(0.5, abs=1e-5), None, pytest.approx(0.5, abs=1e-5))
    assert vector_errors(Comparison(frames, windows[:, 0]), make_steps(torch.zeros(8), vector=torch.ones(8, 3))) == []


def test_steps_before():
    steps = make_steps(torch.zeros(5), ends=torch.tensor([0, 0, 1, 0, 1]).bool())
    assert steps.begins.tolist() == [True, False, False, True, False]
    assert steps.before.tolist() == [0, 0, 1, 3, 3]


def test_values_are_held_against_known_returns_alone():
    """The discount 0.1 forgets after two steps: of the last step's return too much is unknown, of none before it."""
    steps = make_steps(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), torch.tensor([0, 0, 1, 0, 0, 0]).bool())
    found = value_part(torch.tensor([1.23, 3.0, 5.6, 9.0]), torch.tensor([0, 2, 4, 5]), steps, 0.1)
    assert found is not None
    assert found.number == 3
    assert found.bias == pytest.approx(0, abs=1e-6)
    assert found.correlation == pytest.approx(1)


def test_a_dream_counts_until_it_ends():
    reward = torch.tensor([[1.0, 5.0, 100.0], [0.0, 0.0, 3.0]])[..., None]
    ended = torch.tensor([[False, True, False], [False, False, True]])[..., None]
    rollout = TensorDict({"next": {"reward": reward, "terminated": ended}}, [2, 3])
    found = dream_part(rollout, make_steps(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 0]).bool()))
    assert (found.number, found.horizon, found.target) == (2, 3, None)
    assert found.reward == pytest.approx(9 / 5), "the 100 comes after the end"
    assert found.ending == pytest.approx(2 / 5)
    assert (found.real_reward, found.real_ending) == (0.25, 0.25)
    assert found.curve == [0.5, 2.5, 3.0]
    rollout["value_target"] = reward
    assert dream_part(rollout, make_steps(torch.zeros(1))).target == 0.5


def test_entropy_and_actions():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    found = policy_part(TensorDict({"logits": logits}, [2]), torch.eye(2)[[0, 0, 0, 1]])
    quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.entropy == pytest.approx((math.log(2) + quarter) / 2)
    assert found.most == pytest.approx(math.log(2))
    assert (found.wanted, found.taken) == (pytest.approx([0.625, 0.375]), [0.75, 0.25])
    found = policy_part(TensorDict({"logits": torch.tensor([[0.0, 0.0, math.log(3), 0.0]])}, [1]), torch.eye(4), [2, 2])
    assert found.entropy == pytest.approx(math.log(2) + quarter), "the sum of two blocks"
    assert found.most == pytest.approx(2 * math.log(2))
    assert found.wanted == pytest.approx([0.5, 0.5, 0.75, 0.25])
    acted = TensorDict({"action": torch.tensor([[0.5], [-1.0]]), "action_log_prob": torch.tensor([1.0, 2.0])}, [2])
    found = policy_part(acted, torch.tensor([[1.0], [0.0]]))
    assert (found.entropy, found.most, found.wanted, found.taken) == (-1.5, None, [-0.25], [0.5])


def test_probes_tell_where_the_reward_is_known():
    """The frame's brightness and the belief tell the reward, latents and head are noise."""
    generator = torch.Generator().manual_seed(0)
    rewarded = torch.rand(600, generator=generator) < 0.2
    pixels = torch.full((600, 16, 16, 3), 50, dtype=torch.uint8)
    pixels[rewarded] += 100
    steps = make_steps(rewarded.float(), pixels=pixels)
    noise, last = torch.randn(600, 4, generator=generator), torch.arange(1, 600)
    belief = rewarded.float()[last, None]
    found = probe_rewards(steps, noise, last, belief, noise[last, 0])
    assert found is not None
    assert found.held_out == rewarded[last][(last // 64) % 3 == 2].sum()
    assert (found.frames, found.belief) == (1.0, 1.0)
    assert 0.35 < found.latents < 0.65
    assert 0.35 < found.head < 0.65
    both = TensorDict({"pixels": pixels[..., :1], "observation": rewarded.float()[:, None]}, [600])
    for own in (both.select("observation"), both):
        of_vector = probe_rewards(replace(steps, observation=own), noise, last, belief, noise[last, 0])
        assert of_vector is not None
        assert of_vector.frames == 1.0
    assert probe_rewards(make_steps(torch.zeros(600), pixels=pixels), noise, last, belief, noise[last, 0]) is None
