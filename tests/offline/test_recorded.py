"""A policy is evaluated in the environment that its dataset was recorded in, arguments and limits included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import ClipReward
from tensordict.nn import TensorDictModule

from tests.support.datasets import CART_POLE, PENDULUM, PONG, load
from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.evaluation import play_targets
from torchrl_glam.offline.recorded import recorded_spec


class Walk(gymnasium.Env):
    """Counts the frames that its constructor's ``frameskip`` makes it pass in a step."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(2)

    def __init__(self, frameskip: int = 4) -> None:
        self.frameskip = frameskip

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.frame = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: int) -> Any:
        self.frame += self.frameskip
        return np.full(4, self.frame, np.float32), 1.0, self.frame >= 100, False, {}


class Strict(Walk):
    """Refuses arguments that it does not know with an error of its own."""

    def __init__(self, **options: Any) -> None:
        if options:
            raise ValueError(f"unknown: {sorted(options)}")
        super().__init__()


@pytest.fixture(autouse=True)
def _walks(monkeypatch):
    for game in (Walk, Strict):
        name = f"{game.__name__}-v0"
        monkeypatch.setitem(gymnasium.registry, name, EnvSpec(name, entry_point=game))


def evaluated(dataset: Any) -> Any:
    """Return the Gymnasium environment of the evaluation."""
    return make_decision_env(dataset.env_spec, frame=dataset.frame)._env


def test_arguments_of_the_constructor(tmp_path):
    dataset = load(tmp_path, env_name=None, env=gymnasium.make(PENDULUM, g=2.0).spec)
    assert evaluated(dataset).unwrapped.g == 2.0
    given = load(tmp_path / "named", env=gymnasium.make(PENDULUM, g=2.0, render_mode="rgb_array").spec)
    assert evaluated(given).unwrapped.g == 2.0
    assert evaluated(given).render_mode is None


def test_limit_of_steps(tmp_path):
    recorded = gymnasium.make("CartPole-v1", max_episode_steps=7).spec
    dataset = load(tmp_path, env_name=None, env=recorded, **CART_POLE)
    env = make_decision_env(dataset.env_spec)
    assert len(env.rollout(50)) == 7
    policy = TensorDictModule(lambda _: torch.tensor([1.0, 0.0]).expand(3, 2), ["observation"], ["action"])
    returns = play_targets(lambda: make_decision_env(dataset.env_spec), policy, 7.0, 3, num_envs=3)
    assert max(returns) <= 7
    endless = load(tmp_path / "endless", env_name=None, env=gymnasium.make(PENDULUM, max_episode_steps=-1).spec)
    assert endless.env_spec.max_episode_steps is None, "as it was recorded, though Pendulum ends after 200 here"


def test_the_environment_that_a_dataset_wants_to_be_evaluated_in(tmp_path):
    dataset = load(tmp_path, env_name=None, env=PENDULUM, eval_env=gymnasium.make(PENDULUM, g=3.0))
    assert evaluated(dataset).unwrapped.g == 3.0


def test_only_the_entry_point_of_here_is_imported():
    own, recorded = gymnasium.spec(PENDULUM), EnvSpec(PENDULUM, entry_point="antigravity:Fly", kwargs={"g": 2.0})
    spec = recorded_spec("tests/counting-v0", own, recorded, pixels=False)
    assert (spec.entry_point, spec.kwargs) == (own.entry_point, {"g": 2.0})


def test_wrappers_of_gymnasium_are_made_again(tmp_path):
    recorded = ClipReward(gymnasium.make(PENDULUM), -0.5, 0.0).spec
    dataset = load(tmp_path, env_name=None, env=recorded)
    assert make_decision_env(dataset.env_spec).rollout(20)["next", "reward"].min() == -0.5


@pytest.mark.parametrize("entry_point", [f"{__name__}:OwnWrapper", "gymnasium.wrappers.rendering:RecordVideo"])
def test_other_wrappers_are_refused(entry_point):
    wrapper = WrapperSpec(entry_point.rpartition(":")[2], entry_point, {})
    recorded = EnvSpec(PENDULUM, additional_wrappers=(wrapper,))
    with pytest.raises(UsageError, match=f"recorded through the wrapper {entry_point}, which is not made again"):
        recorded_spec("tests/counting-v0", gymnasium.spec(PENDULUM), recorded, pixels=False)


def test_an_ale_game_that_the_protocol_does_not_describe_is_refused():
    own = find_spec(PONG)
    assert recorded_spec("tests/pong-v0", own, own, pixels=True) == own
    harder = replace(own, kwargs={**own.kwargs, "mode": 1, "render_mode": "human"}, max_episode_steps=50)
    with pytest.raises(UsageError, match=r"recorded in ALE/Pong-v5 with mode=1, max_episode_steps=50, which env"):
        recorded_spec("tests/pong-v0", own, harder, pixels=True)
    assert recorded_spec("tests/pong-v0", own, harder, pixels=False).kwargs["mode"] == 1, "of its memory, not frames"


@pytest.mark.parametrize("name", ["Walk-v0", "Strict-v0"])
def test_constructors_get_only_the_arguments_that_were_recorded(name):
    """TorchRL's GymEnv gives frameskip=1 to all of them."""
    assert make_decision_env(name).rollout(3)["next", "observation"][:, 0].tolist() == [4, 8, 12]
