"""What evaluation tells of each episode, and of all of them."""

from __future__ import annotations

import pytest
import torch
from tensordict.nn import TensorDictModule

from torchrl_glam.envs import make_atari_env
from torchrl_glam.training.evaluation import Episode, FirstEpisode, Score, evaluate, play_episodes


@pytest.fixture
def play():
    """A function that plays the counting game, whose episodes have 30, 27, 35 and 41 steps, in turns."""

    def play_counting(episodes, **options):
        env = make_atari_env("tests.support.games:CountingGame-v0", seed=0, frame_skip=1)
        action = torch.nn.functional.one_hot(torch.tensor(2), 4)
        policy = TensorDictModule(lambda pixels: action, in_keys=["pixels"], out_keys=["action"])
        return play_episodes(env, policy, episodes, **options)

    return play_counting


def value(length):
    """The game's return: 100 times the action, and the number of the frame, at each step."""
    return float(200 * length + sum(range(length + 1)))


def test_episodes_come_with_their_lengths(play):
    first, second, third = play(3)
    assert (first.length, second.length, third.length) == (30, 27, 35)
    assert [first, second, third] == [Episode(value(length), length) for length in (30, 27, 35)]


def test_an_episode_that_is_cut_says_so(play, capsys):
    played = play(3, max_steps=28)
    assert played == [Episode(value(28), 28, cut=True), Episode(value(27), 27), Episode(value(28), 28, cut=True)]
    assert capsys.readouterr().out.splitlines() == ["evaluation: an episode was cut after 28 steps"] * 2


def test_every_step_is_handed_out(play):
    steps = []
    played = play(2, on_step=steps.append)
    assert len(steps) == 30 + 27
    assert sum(step["next", "reward"].item() for step in steps) == sum(episode.episode_return for episode in played)
    assert [number for number, step in enumerate(steps, 1) if step["next", "done"].item()] == [30, 57]


def test_the_frames_of_the_first_episode(play):
    steps, first, short = [], FirstEpisode(), FirstEpisode(most=10)
    play(2, on_step=lambda step: [taker(step) for taker in (steps.append, first, short)])
    assert first.frames.shape == (31, 64, 64, 3)
    assert torch.equal(first.frames[:30], torch.cat([step["pixels"] for step in steps[:30]]))
    assert torch.equal(first.frames[30:], steps[29]["next", "pixels"])
    assert torch.equal(short.frames, first.frames[:10])


def test_a_score_is_computed_from_its_returns():
    score = Score("ALE/Pong-v5", "standard", [-21.0, -15.0, -18.0])
    assert score.mean == -18
    assert score.standard_deviation == pytest.approx(6**0.5)
    assert score.human_normalised == pytest.approx(3 / 36)
    mean, protocol = "-18.00, standard deviation 2.45 over 3 episodes", "protocol standard"
    assert str(score) == f"{mean} ({protocol}; random -21, human 15, human-normalised 0.083)"


def test_a_game_without_references():
    score = Score("tests.support.games:CatchBall-v0", "glam", [4.0])
    assert score.human_normalised is None
    assert str(score) == "4.00, standard deviation 0.00 over 1 episode (protocol glam)"


def test_evaluate_returns_the_returns():
    env = make_atari_env("tests.support.games:CountingGame-v0", seed=0, frame_skip=1)
    action = torch.nn.functional.one_hot(torch.tensor(2), 4)
    policy = TensorDictModule(lambda pixels: action, in_keys=["pixels"], out_keys=["action"])
    assert evaluate(env, policy, 2) == [value(30), value(27)]
