"""Offline runs on stacked frames: what the environment shows is what the data show, and a run acts, ends and loads."""

from __future__ import annotations

import json
import runpy
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hydra import compose, initialize_config_dir
from minari.data_collector import EpisodeBuffer
from torchrl.envs import SerialEnv

from tests.support.datasets import MOVES, PIXELS, PONG, write_episodes
from tests.support.paths import EXAMPLES, ROOT
from tests.support.saved import save_run
from torchrl_glam.data.minari_files import write_dataset
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.dataset import load_dataset
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.loading import load_decisions
from torchrl_glam.offline.windows import RecordStorage
from torchrl_glam.runs.export import export_minari
from torchrl_glam.runs.loading import read_config

GREY = Box(0, 255, (84, 84, 1), np.uint8)
SIZES = ["model.width=8", "model.num_layers=1", "model.context=2", "batch_size=2", "total_updates=2", "log_every=1"]
RUN = [*SIZES, "optimizer.warmup_updates=1", "evaluation.targets=[1.0]", "evaluation.episodes=1", "env.num_envs=1"]


@pytest.mark.parametrize("frame", [(64, 64, 3), (84, 84, 1)])
def test_the_environment_stacks_frames_as_the_windows_do(frame, tmp_path):
    env = make_decision_env(gymnasium.spec(PONG), frame=frame, stack=3)
    assert env.observation_spec["observation"].shape == (*frame[:2], 3 * frame[2])
    env.set_seed(0)
    played = env.rollout(30)
    env.close()
    newest = played["observation"][..., -frame[2] :]
    episode = EpisodeBuffer(
        observations=np.concatenate([newest.numpy(), newest[-1:].numpy()]),
        actions=played["action"].argmax(-1).numpy(),
        rewards=played["next", "reward"].flatten().numpy(),
        terminations=np.zeros(30, bool),
        truncations=np.arange(30) == 29,
    )
    spaces = {"observation_space": Box(0, 255, frame, np.uint8), "action_space": MOVES}
    write_dataset("tests/played-v0", [episode], root=tmp_path, **spaces)
    dataset = load_dataset("tests/played-v0", root=tmp_path, env_name=PONG, stack=3)
    (window,) = RecordStorage(dataset.records, dataset.stack).get(torch.arange(30)[None])
    assert torch.equal(window["observation"], played["observation"])
    assert len(played["observation"].unique(dim=0)) > 5  # they move


def test_several_environments_keep_their_own_frames():
    env = SerialEnv(2, lambda: make_decision_env(PONG, frame=(64, 64, 3), stack=2))
    first = env.reset()
    assert torch.equal(first["observation"][..., :3], first["observation"][..., 3:])
    step = env.rand_step(first)
    assert torch.equal(step["next", "observation"][..., :3], first["observation"][..., 3:])
    reset = env.reset(step["next"].clone().set("_reset", torch.tensor([[True], [False]])))
    assert torch.equal(reset["observation"][0, ..., :3], reset["observation"][0, ..., 3:])
    assert torch.equal(reset["observation"][1], step["next", "observation"][1])
    env.close()


def test_the_frames_of_a_run_in_grey_are_a_dataset(tmp_path):
    played = save_run(tmp_path / "run", f"env.name={PONG}", "env.image_size=84", "env.color=grey", played=(20,))
    config = read_config(tmp_path / "run", trust=True)
    dataset_id = export_minari(tmp_path / "run", config, root=tmp_path / "datasets")
    dataset = load_dataset(dataset_id, root=tmp_path / "datasets", env_name=PONG, stack=4)
    assert (dataset.frame, dataset.observation_shape) == ((84, 84, 1), (84, 84, 4))
    assert torch.equal(dataset.records["observation"], played["pixels"][: dataset.num_transitions])


@pytest.mark.parametrize("space", [PIXELS, GREY])
def test_a_run_on_stacked_frames_acts_and_loads(space, tmp_path, monkeypatch, capsys):
    spec = gymnasium.spec(PONG)
    write_episodes(tmp_path, observations=space, actions=MOVES, env=spec, observation_space=space, action_space=MOVES)
    options = [f"data.root={tmp_path}", "dataset=tests/counting-v0", f"run_dir={tmp_path / 'run'}", "data.stack=4"]
    monkeypatch.setattr("torchrl_glam.offline.evaluation.MAX_STEPS", 5)
    monkeypatch.setattr(sys, "argv", ["mambadm_offline.py", "preset=debug", *options, *RUN])
    runpy.run_path(str(EXAMPLES / "mambadm_offline.py"), run_name="__main__")
    assert "model mambadm" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "run" / "result.json").read_text())["evaluations"]) == 1
    run = load_decisions(tmp_path / "run")
    assert run.network.observation_shape == (*space.shape[:2], 4 * space.shape[2])


@pytest.mark.parametrize(("model", "heads"), [("mambadm", None), ("dt", 8)])
def test_the_preset_has_the_decision_transformers_sizes(model, heads):
    with initialize_config_dir(str(ROOT / "configs" / "offline"), version_base="1.3"):
        options = compose("mambadm_offline", [f"model={model}", "preset=atari", "dataset=none", "run_dir=none"])
    assert (options.model.width, options.model.num_layers, options.model.context) == (128, 6, 30)
    assert (options.batch_size, options.data.stack, options.optimizer.lr) == (128, 4, 6e-4)
    assert options.model.get("num_heads") == heads


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"stack": 4}, "data.stack=4, and the dataset tests/counting-v0 has vectors: leave it at 1"),
        ({"stack": 0}, "data.stack=0, and the dataset tests/counting-v0 has vectors"),
        ({"stack": 0, "observations": PIXELS, "actions": MOVES, "env_name": PONG}, "has frames: give 1 or more"),
    ],
)
def test_a_stack_must_suit_the_data(tmp_path, options, line):
    stack = options.pop("stack")
    with pytest.raises(UsageError, match=line):
        load_dataset(write(tmp_path, **options), root=tmp_path, env_name=options.get("env_name"), stack=stack)


def write(root, env_name=None, **options):
    return write_episodes(root, **options)
