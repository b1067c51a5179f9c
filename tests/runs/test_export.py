"""Exports of a run: one file of weights that loads in five lines, a dataset that holds exactly what was played."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise

import minari
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from safetensors import safe_open
from tensordict import TensorDict
from torchrl.data.datasets.minari_data import MinariExperienceReplay

from tests.support.saved import save_run
from torchrl_glam.errors import UsageError
from torchrl_glam.offline import load_dataset
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.runs.export import export_minari, export_weights
from torchrl_glam.runs.loading import load_run, read_config

COUNTING = (
    "env.name=tests.support.games:CountingGame-v0",
    "env.frame_skip=1",
)  # episodes of 30, 27, 35, 41 steps, in turns
TRUNCATED = ("env.name=tests.support.games:CountingGameTruncated-v0", "env.frame_skip=1")
STEER = ("env.name=tests.support.games:SteerBall-v0",)
NAME = "glam/test-v0"


def options_of(folder):
    """Return the options of a run in an environment of the tests."""
    return read_config(folder, trust=True)


@pytest.fixture
def export(tmp_path, monkeypatch):
    """A function that makes a run and its dataset; returns what was played, the dataset and its folder."""

    def make(*options, played=(100, 50)):
        steps = save_run(tmp_path / "run", *options, played=played)
        root = tmp_path / "datasets"
        assert export_minari(tmp_path / "run", options_of(tmp_path / "run"), dataset_id=NAME, root=root) == NAME
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
        return steps, minari.load_dataset(NAME), root

    return make


def test_several_discrete_actions_at_once(export):
    steps, dataset, _ = export("env.name=tests.support.sensors:FilmedLevers-v0", played=(60,))
    assert dataset.action_space == MultiDiscrete([3, 2])
    first, second = steps["action"][:25].split((3, 2), -1)
    assert dataset[0].actions.tolist() == torch.stack([first.argmax(-1), second.argmax(-1)], -1).tolist()
    assert dataset[0].truncations.tolist() == [False] * 24 + [True]
    assert not dataset[0].terminations.any()


def cut(steps):
    """One environment's steps as episodes, and whether each ended."""
    ends = [0, *(steps["next", "done"].flatten().nonzero().flatten() + 1).tolist()]
    yield from ((steps[start:stop], True) for start, stop in pairwise(ends))
    if ends[-1] < len(steps):
        yield steps[ends[-1] :], False


def check_episode(episode, steps, ended, discrete=True):
    """An episode of the dataset against what the environment said, the next frames included."""
    number = len(steps) - (not ended)  # an unfinished one ends with its last frame
    steps = steps[:number]
    action = steps["action"].argmax(-1) if discrete else steps["action"]
    following = steps["next"]
    assert len(episode.rewards) == number
    assert np.array_equal(episode.observations[:number], steps["pixels"].numpy())
    known = number - 1 if ended else number  # the frame after an episode's end was never recorded
    assert np.array_equal(episode.observations[1 : known + 1], following["pixels"][:known].numpy())
    assert np.array_equal(episode.observations[number], episode.observations[number - ended])
    assert np.array_equal(episode.actions, action.numpy())
    assert np.array_equal(episode.rewards, following["reward"].flatten().numpy())
    assert np.array_equal(episode.terminations, following["terminated"].flatten().numpy())
    assert np.array_equal(episode.truncations[:-1], following["truncated"].flatten().numpy()[:-1])
    assert episode.truncations[-1] == (not ended or following["truncated"][-1].item())
    assert episode.infos["life_loss"].tolist() == [False, *following["life_loss"].flatten().tolist()]


@pytest.mark.parametrize("options", [COUNTING, TRUNCATED, STEER], ids=["terminates", "truncates", "continuous"])
def test_a_dataset_holds_what_was_played(export, options):
    steps, dataset, _ = export(*options)
    wanted = list(cut(steps))
    assert dataset.total_episodes == len(wanted) == (3 if options == STEER else 5)
    assert dataset.total_steps == 149
    for episode, (own, ended) in zip(dataset.iterate_episodes(), wanted, strict=True):
        check_episode(episode, own, ended, discrete=options != STEER)
    assert dataset.observation_space == Box(0, 255, (64, 64, 3), np.uint8)
    assert dataset.action_space == (Box(-1.0, 1.0, (1,), np.float32) if options == STEER else Discrete(4))
    episode = next(iter(dataset.iterate_episodes()))
    assert dataset.action_space.contains(episode.actions[0])
    assert dataset.observation_space.contains(episode.observations[0])


def test_vectors_name_their_environment_and_are_read_by_sequence_models(export, tmp_path):
    steps, dataset, root = export("env.name=Pendulum-v1", "total_frames=450", played=(450,))
    assert (dataset.observation_space.shape, dataset.observation_space.dtype) == ((3,), np.float32)
    first = next(iter(dataset.iterate_episodes()))
    assert np.array_equal(first.observations[:200], steps["observation"][:200].numpy())
    assert np.array_equal(first.actions, steps["action"][:200].numpy())
    loaded = load_dataset(NAME, root=root)
    assert (loaded.env_name, loaded.num_episodes) == ("Pendulum-v1", 3)
    assert loaded.action_spec.space.high.tolist() == [1.0]
    env = make_decision_env(loaded.env_spec)
    state = env.reset().set("action", torch.ones(1))
    theta = torch.atan2(state["observation"][1], state["observation"][0])
    after = env.step(state)["next", "observation"]
    torque = (after[2] - state["observation"][2] - 0.05 * 15 * theta.sin()) / (0.05 * 3)
    assert torque.item() == pytest.approx(2.0, abs=1e-3), "the environment's own bound"


def test_both_are_a_dict(export):
    steps, dataset, root = export("env.name=tests.support.sensors:Arm-v0", "env.image_size=32", played=(60,))
    assert {key: space.shape for key, space in dataset.observation_space.items()} == {
        "pixels": (32, 32, 3),
        "observation": (7,),
    }
    episode = next(iter(dataset.iterate_episodes()))
    for key in ("pixels", "observation"):
        assert np.array_equal(episode.observations[key][:25], steps[key][:25].numpy())
        assert np.array_equal(episode.observations[key][25], episode.observations[key][24])
    with pytest.raises(UsageError, match=r"has the observations Dict.*choose one with vectors"):
        load_dataset(NAME, root=root, env_name="tests.support.sensors:Arm-v0")


def test_environments_are_taken_apart(export):
    steps, dataset, _ = export(*COUNTING, "env.num_envs=2", "total_frames=240", played=(100, 140))
    wanted = [part for own in steps for part in cut(own)]
    assert dataset.total_episodes == len(wanted) == 8
    assert dataset.total_steps == 238
    for episode in dataset.iterate_episodes():
        (own,) = [part for part in wanted if np.array_equal(part[0]["pixels"][0].numpy(), episode.observations[0])
                  and np.array_equal(part[0]["action"][:5].argmax(-1).numpy(), episode.actions[:5])]  # fmt: skip
        check_episode(episode, *own)


def test_torchrl_reads_the_same(export, tmp_path, monkeypatch):
    steps, _, _ = export(*COUNTING)
    # torchrl 0.14.1 fills a tensordict with the data and returns its memmap_like, which is an empty copy: all zeros.
    with monkeypatch.context() as patched:
        patched.setattr(TensorDict, "memmap_like", TensorDict.memmap)
        replay = MinariExperienceReplay(NAME, 32, root=tmp_path / "torchrl", load_from_local_minari=True)
    read = replay[:]
    assert len(read) == 149
    ended = steps["next", "done"].flatten()[:149]
    steps = steps[:149]
    assert torch.equal(read["observation"], steps["pixels"])
    assert torch.equal(read["next", "observation"][~ended], steps["next", "pixels"][~ended])
    assert torch.equal(read["next", "observation"][ended], steps["pixels"][ended])
    assert torch.equal(read["action"], steps["action"].argmax(-1))
    assert torch.equal(read["next", "reward"], steps["next", "reward"])
    assert torch.equal(read["next", "terminated"], steps["next", "terminated"])
    assert torch.equal(read["next", "info", "life_loss"].flatten(), steps["next", "life_loss"].flatten())
    assert read["next", "done"].sum() == 5
    assert read["episode"].unique().tolist() == [0, 1, 2, 3, 4]
    assert replay.metadata["action_space"].n == 4
    assert len(replay.sample()) == 32


def test_torchrl_still_loses_all_of_it(export, tmp_path):
    """When this fails, the detour in the test above and the note in ``export_minari`` may go."""
    export(*COUNTING)
    replay = MinariExperienceReplay(NAME, 32, root=tmp_path / "torchrl", load_from_local_minari=True)
    assert not replay[:]["observation"].any()


def test_the_description_says_what_is_special(export):
    _, _, root = export(*COUNTING)
    metadata = json.loads((root / NAME / "data" / "metadata.json").read_text())
    for part in ("CountingGame", "frame skip 1", "seed 0", "the frame before it once more", "truncated a step early"):
        assert part in metadata["description"]
    assert metadata["jpeg_encoding"] is False
    assert not list(root.glob(".export-*"))


def test_an_episode_of_one_frame_that_goes_on_has_no_step(export):
    _, dataset, _ = export(*COUNTING, played=(31,))
    assert dataset.total_episodes == 1
    assert dataset.total_steps == 30


def test_the_default_place_is_minaris_own_and_the_name_the_games(tmp_path, monkeypatch):
    save_run(tmp_path / "run", "seed=3")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "own"))
    name = export_minari(tmp_path / "run", options_of(tmp_path / "run"))
    assert name == "glam/catchball-seed3-v0"
    assert minari.load_dataset(name).total_episodes == 3
    assert name in minari.list_local_datasets()
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path / "own")


def test_a_second_dataset_beside_the_first(tmp_path, monkeypatch):
    save_run(tmp_path / "run")
    config = options_of(tmp_path / "run")
    for name in ("glam/test-v0", "glam/test-v1", "plain-v0"):
        export_minari(tmp_path / "run", config, dataset_id=name, root=tmp_path / "sets")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    assert sorted(minari.list_local_datasets()) == ["glam/test-v0", "glam/test-v1", "plain-v0"]


@pytest.mark.parametrize("name", ["plain", "a-vx", "../up-v0", "/abs-v0", "glam/-v", "with space-v0", ""])
def test_a_malformed_id(tmp_path, name):
    save_run(tmp_path / "run")
    if name:
        with pytest.raises(UsageError, match=r"^dataset_id=.* is malformed: write name-v0 or namespace/name-v0$"):
            export_minari(tmp_path / "run", options_of(tmp_path / "run"), dataset_id=name, root=tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_a_taken_id_is_left_as_it_is(export, tmp_path):
    _, _, root = export()
    before = (root / NAME / "data/main_data.hdf5").read_bytes()
    with pytest.raises(UsageError, match=r"^dataset_id=glam/test-v0 exists already in \S+: choose another"):
        export_minari(tmp_path / "run", options_of(tmp_path / "run"), dataset_id=NAME, root=root)
    assert (root / NAME / "data/main_data.hdf5").read_bytes() == before


def test_without_records_nothing_is_made(tmp_path):
    save_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/replay")
    with pytest.raises(UsageError, match=r"run holds no records: give the run_dir of a run"):
        export_minari(tmp_path / "run", options_of(tmp_path / "run"), root=tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_a_damaged_file_leaves_no_half_of_a_dataset(tmp_path):
    save_run(tmp_path / "run", played=(100, 50))
    path = tmp_path / "run/replay/records-000000000100-000000000150.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"000000000150.safetensors is damaged"):
        export_minari(tmp_path / "run", options_of(tmp_path / "run"), dataset_id=NAME, root=tmp_path / "sets")
    assert list((tmp_path / "sets").iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    save_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^out=\S+/file cannot be written \(File exists\): choose another folder$"):
        export_minari(tmp_path / "run", options_of(tmp_path / "run"), dataset_id=NAME, root=tmp_path / "file")


def test_without_minari(tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.runs.export.has_minari", False)
    with pytest.raises(UsageError, match=r'^to=minari needs packages .*: pip install "torchrl_glam\[minari\]"$'):
        export_minari(tmp_path, options_of(save_folder(tmp_path)))


def save_folder(tmp_path):
    save_run(tmp_path / "run")
    return tmp_path / "run"


# One file of weights

FIVE_LINES = """
from torchrl_glam.runs.loading import load_run
run = load_run("{folder}", trust=True)
env = run.make_imagined_env(batch_size=8)
rollout = env.rollout(5, run.actor, break_when_any_done=False)
print(rollout["next", "reward"].mean())
"""


@pytest.mark.parametrize("options", [(), STEER, ("objective=discrete_sac",)], ids=["glam", "continuous", "sac"])
def test_weights_come_back_in_five_lines(tmp_path, options, capsys):
    save_run(tmp_path / "run", *options)
    original = load_run(tmp_path / "run", trust=True)
    export_weights(original, tmp_path / "out" / "pong")
    assert sorted(path.name for path in (tmp_path / "out/pong").iterdir()) == ["config.yaml", "weights.safetensors"]
    names: dict = {}
    with torch.no_grad():
        exec(FIVE_LINES.format(folder=tmp_path / "out/pong"), names)
    assert "tensor(" in capsys.readouterr().out
    run = names["run"]
    assert names["rollout"].shape == (8, 5)
    assert (run.config, run.frame, run.action_spec) == (original.config, original.frame, original.action_spec)
    for name in ("world_model", "actor"):
        mine, its = getattr(run, name).state_dict(), getattr(original, name).state_dict()
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[key], its[key]) for key in mine)


def test_the_file_is_one_that_anybody_reads(tmp_path):
    save_run(tmp_path / "run")
    run = load_run(tmp_path / "run", trust=True)
    path = export_weights(run, tmp_path / "out") / "weights.safetensors"
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        some = file.get_tensor("world_model.encoder.head.weight")
    wanted = {f"{part}.{key}" for part in ("world_model", "actor", "critic") for key in getattr(run, part).state_dict()}
    assert names == wanted
    assert torch.equal(some, run.world_model.encoder.head.weight)


def test_an_export_is_exported_again(tmp_path):
    save_run(tmp_path / "run")
    export_weights(load_run(tmp_path / "run", trust=True), tmp_path / "one")
    export_weights(load_run(tmp_path / "one", trust=True), tmp_path / "two")
    for name in ("weights.safetensors", "config.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("taken", ["by a file", "by a folder", "above by a file"])
def test_a_taken_folder_is_left_as_it_is(tmp_path, taken):
    save_run(tmp_path / "run")
    out = tmp_path / "out"
    precious, wanted = {
        "by a file": (out, "is there already"),
        "by a folder": (out / "notes", "is there already"),
        "above by a file": (tmp_path / "file", "cannot be written"),
    }[taken]
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious")
    with pytest.raises(UsageError, match=rf"^out=\S+ {wanted}"):
        export_weights(load_run(tmp_path / "run", trust=True), precious / "new" if taken == "above by a file" else out)
    assert precious.read_text() == "precious"
    assert not list(tmp_path.glob(".export-*"))


def test_an_empty_folder_will_do(tmp_path):
    save_run(tmp_path / "run")
    (tmp_path / "out").mkdir()
    export_weights(load_run(tmp_path / "run", trust=True), tmp_path / "out")
    assert load_run(tmp_path / "out", trust=True).frame == 150
