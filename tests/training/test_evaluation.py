"""What evaluation tells of each episode, and of all of them."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torch import nn
from torchrl.data import OneHot
from torchrl.envs.utils import exploration_type

from tests.support.configs import load
from tests.support.games import play_catch
from torchrl_glam import factory
from torchrl_glam.envs import make_atari_env
from torchrl_glam.modules import GLAMPolicy, make_actor
from torchrl_glam.runs.summary import describe_result
from torchrl_glam.training.evaluation import Episode, FirstEpisode, Score, episode_returns, evaluate, play_episodes


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
    frames = first.observations["pixels"]
    assert frames.shape == (31, 64, 64, 3)
    assert torch.equal(frames[:30], torch.cat([step["pixels"] for step in steps[:30]]))
    assert torch.equal(frames[30:], steps[29]["next", "pixels"])
    assert torch.equal(short.observations["pixels"], frames[:10])


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


def test_returns_of_the_episodes_that_end_in_a_batch():
    after = {
        "done": torch.tensor([[False], [True], [False], [True]]),
        "episode_reward": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
    }
    assert episode_returns(TensorDict({"next": after}, [4])) == [2.0, 4.0]
    assert episode_returns(TensorDict({"next": after}, [4])[:1]) == []


# Policies with a plan on a real game


class Scripted(TensorDictModuleBase):
    """Catches the first ``plan[episode]`` balls of each episode, then runs away from them."""

    def __init__(self, game, plan):
        super().__init__()
        self.in_keys, self.out_keys = ["pixels", "step_count"], ["action"]
        self.game, self.plan, self.episode, self.explorations = game, plan, -1, set()

    def forward(self, tensordict):
        if exploration_type() is not None:  # a collector first tries its policy outside of any episode
            self.explorations.add(exploration_type())
        step = tensordict["step_count"].item()
        self.episode += step == 0
        caught = step // self.game.FALL < self.plan[self.episode % len(self.plan)]
        action = play_catch(self.game) if caught else 2 if self.game.ball < 29 else 1
        return tensordict.set("action", nn.functional.one_hot(torch.tensor(action), 3))


@pytest.fixture
def catch():
    """The game behind its wrappers, and the environment."""
    env = make_atari_env("tests.support.games:CatchBall-v0", seed=0)
    yield env.base_env._env.unwrapped, env
    env.close()


def test_returns_are_those_of_each_episode(catch):
    game, env = catch
    assert evaluate(env, Scripted(game, [5]), 3) == [5.0, 5.0, 5.0]


def test_each_episode_counts_for_itself(catch):
    """A second witness: the rewards that the game gave, episode by episode."""
    game, env = catch
    episodes, step, reset = [], game.step, game.reset

    def witness_step(action):
        result = step(action)
        episodes[-1].append(result[1])
        return result

    def witness_reset(**options):
        episodes.append([])
        return reset(**options)

    game.step, game.reset = witness_step, witness_reset
    returns = evaluate(env, Scripted(game, [5, 0, 3]), 6)
    played = [sum(rewards) for rewards in episodes if len(rewards) == game.BALLS * game.FALL]
    assert len(returns) == 6
    assert returns == played[:6]
    assert returns.count(5.0) == 2, "the plan: all five balls in every third episode"


def test_an_episode_that_goes_on_is_cut(catch, monkeypatch, capsys):
    """The game never ends, but for the second episode, which does so after its five balls."""
    game, env = catch
    step, ends = game.step, []

    def go_on(action):
        pixels, reward, ended, *rest = step(action)
        ends.append(ended)
        return pixels, reward, ended and len(ends) == 84 + 60, *rest

    monkeypatch.setattr(game, "step", go_on)
    assert evaluate(env, Scripted(game, [9]), 3, max_steps=84) == [7.0, 5.0, 7.0]
    assert capsys.readouterr().out.splitlines() == ["evaluation: an episode was cut after 84 steps"] * 2
    assert len(ends) == 84 + 60 + 84


@pytest.mark.parametrize("greedy", [False, True])
def test_greedy_reaches_the_policy(catch, greedy):
    game, env = catch
    policy = Scripted(game, [5])
    evaluate(env, policy, 1, greedy=greedy)
    assert {kind.name for kind in policy.explorations} == {"DETERMINISTIC" if greedy else "RANDOM"}


def test_a_policy_with_a_context_can_be_evaluated_again_and_again(catch, make_world_model):
    _, env = catch
    world_model = make_world_model(image_shape=(64, 64, 3), channels=(2, 2, 2, 2))
    policy = GLAMPolicy(world_model, make_actor(world_model.state_size, 8, OneHot(3), hidden=8), OneHot(3))
    returns = [evaluate(env, policy, 2) for _ in range(3)]
    assert all(0 <= value <= 5 and value == int(value) for pair in returns for value in pair)


def test_no_episodes_are_no_evaluation():
    assert play_episodes(None, None, 0) == []
    config = load("preset=debug", "evaluation.episodes=0")
    assert factory.num_evaluation_episodes(config) == 0
    result = describe_result(config, [], total_frames=160, device="cpu", evaluation_seconds=0.0, seconds=1.0)
    assert (result["returns"], result["mean"], result["human_normalised"]) == ([], None, None)
