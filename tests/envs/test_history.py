"""An environment is brought to where another one was, and its next steps are the same."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from tests.support.games import CatchBall
from torchrl_glam.envs import make_atari_env
from torchrl_glam.envs.history import EnvHistory, from_state, to_state
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint import read_state, write_state


def make(name: str, seed: int = 3, **options) -> tuple[EnvBase, EnvHistory]:
    history = EnvHistory()
    return make_atari_env(name, seed=seed, **options).append_transform(history), history


def play(env: EnvBase, root: TensorDictBase, steps: int) -> tuple[list[TensorDictBase], TensorDictBase]:
    """Random steps, drawn from torch's generator, and where they lead."""
    records = []
    for _ in range(steps):
        record, root = env.step_and_maybe_reset(env.rand_action(root))
        records.append(record.clone())
    return records, root


@pytest.mark.parametrize("steps", [0, 37, 150])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ALE/Breakout-v5", {}),  # sticky actions
        ("ALE/Breakout-v5", {"protocol": "standard"}),  # random no-ops
        ("tests.support.games:CountingGame-v0", {}),
        ("tests.support.games:SteerBall-v0", {"num_envs": 2}),
        ("ALE/Pong-v5", {"num_envs": 2}),
        ("tests.support.sensors:Arm-v0", {}),
        ("tests.support.sensors:Levers-v0", {"num_envs": 2}),
        ("FrozenLake-v1", {}),  # slippery
        ("Pendulum-v1", {}),
    ],
    ids=["sticky", "no-ops", "counting", "steer x 2", "pong x 2", "arm", "levers x 2", "lake", "pendulum"],
)
def test_it_goes_on_as_the_other_one_does(tmp_path, name, options, steps):
    torch.manual_seed(0)
    env, history = make(name, **options)
    _, root = play(env, env.reset(), steps)
    write_state(tmp_path / "state", {"root": to_state(root), "history": history.history()})
    random_state = torch.get_rng_state()
    wanted, _ = play(env, root, 60)

    state = read_state(tmp_path / "state")
    fresh, other = make(name, **options)
    first = fresh.reset()
    there = from_state(state["root"], like=first)
    other.replay(fresh, first, state["history"], there)
    torch.set_rng_state(random_state)
    found, _ = play(fresh, there, 60)
    assert (torch.stack(found) == torch.stack(wanted)).all()
    assert (other.history()["actions"] == history.history()["actions"]).all()  # ready for the next checkpoint


def test_the_actions_of_an_atari_game_are_kept_for_its_episode_alone():
    env, history = make("ALE/Breakout-v5")
    torch.manual_seed(0)
    records, _ = play(env, env.reset(), 400)
    ends = [number for number, record in enumerate(records) if record["next", "done"].any()]
    assert ends, "no episode ended"
    assert len(history.history()["actions"]) == 399 - ends[-1]


def test_an_environment_that_does_not_repeat_itself_is_refused(monkeypatch):
    env, history = make("tests.support.games:CatchBall-v0")
    torch.manual_seed(0)
    _, root = play(env, env.reset(), 20)
    monkeypatch.setattr(CatchBall, "SPEED", 4)
    fresh, other = make("tests.support.games:CatchBall-v0")
    with pytest.raises(UsageError, match="did not repeat itself: after the same 20 actions its pixels"):
        other.replay(fresh, fresh.reset(), history.history(), root)
    monkeypatch.undo()
    unlike, other = make("tests.support.games:CatchBall-v0", seed=4)
    with pytest.raises(UsageError, match="resume=force"):
        other.replay(unlike, unlike.reset(), history.history(), root)
