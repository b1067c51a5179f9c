"""Datasets, written by Minari and read by TorchRL: what comes out is what went in."""

from __future__ import annotations

import shutil
import socket

import gymnasium
import minari
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from tensordict import TensorDict
from torchrl.data import Bounded, OneHot

from tests.support.datasets import CART_POLE, MOVES, PENDULUM, PIXELS, PONG, load, write_episodes
from tests.support.saved import save_run
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.dataset import load_dataset, normalised_score
from torchrl_glam.offline.records import make_records
from torchrl_glam.runs.export import export_minari
from torchrl_glam.runs.loading import read_config

TIMES = [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 0, 0, 1, 2, 3, 4]
EPISODES = [0] * 4 + [1] * 7 + [2] + [3] * 5
RETURNS_TO_GO = [4.75, 3.75, 2.625, 1.375, 16.625, 14.625, 12.5, 10.25, 7.875, 5.375, 2.75, 3, 21.25, 17.25, 13.125, 8.875, 4.5]  # fmt: skip # noqa: E501
RAM = Box(0, 255, (4,), np.uint8)


def check_counting(records):
    """Times, ends, rewards and returns of ``LENGTHS``."""
    assert records["time_step"].dtype == records["episode"].dtype == torch.int64
    assert records["time_step"].tolist() == [[time] for time in TIMES]
    assert records["episode"].tolist() == EPISODES
    assert records["next", "done"].flatten().nonzero().flatten().tolist() == [3, 10, 11, 16]
    assert records["next", "done"].shape == (17, 1)
    rewards = [[1 + episode + time / 8] for episode, time in zip(EPISODES, TIMES, strict=True)]
    assert torch.equal(records["next", "reward"], torch.tensor(rewards))
    torch.testing.assert_close(records["return_to_go"], torch.tensor(RETURNS_TO_GO).unsqueeze(1))


def test_vectors_with_continuous_actions_come_back(tmp_path):
    dataset = load(tmp_path)
    records = dataset.records
    check_counting(records)
    counted = [[episode, time, 0] for episode, time in zip(EPISODES, TIMES, strict=True)]
    assert torch.equal(records["observation"], torch.tensor(counted, dtype=torch.float32))
    assert torch.equal(records["action"], torch.tensor(TIMES).unsqueeze(1) / 8)  # a 16th of the bound, which is 2
    assert dataset.observation_shape == (3,)
    assert isinstance(dataset.action_spec, Bounded)
    assert dataset.action_spec.is_in(records["action"][0])
    assert dataset.action_spec.space.high.tolist() == [2]
    assert (dataset.env_name, dataset.dataset_id) == (PENDULUM, "tests/counting-v0")
    assert (dataset.num_episodes, dataset.num_transitions) == (4, 17)
    assert dataset.episode_returns().tolist() == pytest.approx([4.75, 16.625, 3, 21.25])
    assert dataset.return_scale == pytest.approx(21.25)


@pytest.mark.parametrize("start", [0, 5])
def test_vectors_with_discrete_actions_come_back(tmp_path, start):
    dataset = load(tmp_path, env_name="CartPole-v1", **{**CART_POLE, "actions": Discrete(2, start=start)})
    check_counting(dataset.records)
    assert isinstance(dataset.action_spec, OneHot)
    wanted = [[1.0, 0.0] if time % 2 == 0 else [0.0, 1.0] for time in TIMES]
    assert torch.equal(dataset.records["action"], torch.tensor(wanted))
    assert dataset.action_spec.is_in(dataset.records["action"][0])


def test_pixels_come_back(tmp_path):
    dataset = load(tmp_path, env_name=PONG, observations=PIXELS, actions=MOVES)
    check_counting(dataset.records)
    observation = dataset.records["observation"]
    assert observation.dtype == torch.uint8
    assert observation.shape == (17, 64, 64, 3)
    counted = torch.tensor([16 * episode + time for episode, time in zip(EPISODES, TIMES, strict=True)])
    assert (observation == counted.reshape(-1, 1, 1, 1)).all()
    assert dataset.records["action"].argmax(1).tolist() == [time % 6 for time in TIMES]
    mean, std = dataset.observation_statistics()
    assert (mean.unique().item(), std.unique().item()) == (0, 1)


def test_bytes_that_are_no_image_become_numbers(tmp_path):
    with pytest.raises(UsageError, match=r"observations \[4\], the environment Pendulum-v1 observations \[3\]"):
        load(tmp_path, observations=RAM)
    dataset = load(tmp_path, observations=RAM, actions=Discrete(2), env_name="CartPole-v1", dataset_id="tests/ram-v0")
    assert dataset.records["observation"].dtype == torch.float32


def test_the_records_of_a_glam_run_come_back(tmp_path):
    steps = save_run(tmp_path / "run", f"env.name={PONG}", played=(60,))
    root = tmp_path / "datasets"
    dataset_id = export_minari(tmp_path / "run", read_config(tmp_path / "run", trust=True), root=root)
    with pytest.raises(UsageError, match=r"names no environment: give env.name"):
        load_dataset(dataset_id, root=root)
    dataset = load_dataset(dataset_id, root=root, env_name=PONG)
    number = dataset.num_transitions
    assert number == 59  # the run's last step is not whole
    assert torch.equal(dataset.records["observation"], steps["pixels"][:number])
    assert torch.equal(dataset.records["action"], steps["action"][:number].float())
    assert torch.equal(dataset.records["next", "reward"], steps["next", "reward"][:number])
    assert (dataset.random_score, dataset.expert_score) == (-21, 15)  # GLAM's Table 1: random, human
    assert normalised_score(dataset, -3) == 50


def test_episodes_keep_their_order(tmp_path):
    dataset = load(tmp_path, lengths=(2,) * 12)  # episode_10 comes before episode_2 in the file
    assert dataset.records["episode"].tolist() == [episode for episode in range(12) for _ in range(2)]
    assert torch.equal(dataset.records["observation"][:, 0], dataset.records["episode"].float())


def test_an_episode_ends_where_the_recording_stopped(tmp_path):
    def stop(episode, entries):
        entries["terminations"][:] = entries["truncations"][:] = False

    check_counting(load(tmp_path, change=stop).records)


def test_statistics_are_those_of_the_steps(tmp_path):
    mean, std = load(tmp_path, lengths=(2, 3)).observation_statistics()
    # episodes 0 0 1 1 1, steps 0 1 0 1 2, zeros; the observations after the last steps do not count
    torch.testing.assert_close(mean, torch.tensor([0.6, 0.8, 0.0]))
    torch.testing.assert_close(std, torch.tensor([0.24, 0.56, 0.0]).sqrt())


def test_the_return_scale_is_never_zero(tmp_path):
    def lose(episode, entries):
        entries["rewards"][:] = 0

    assert load(tmp_path, change=lose).return_scale == 1e-6


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ({"ref_min_score": -20.0, "ref_max_score": 180.0}, (-20, 180)),
        ({}, (None, None)),
        ({"ref_min_score": 5.0, "ref_max_score": 5.0}, (None, None)),
        ({"ref_min_score": 5.0, "ref_max_score": float("nan")}, (None, None)),
    ],
)
def test_references_are_the_datasets(tmp_path, options, scores):
    options = {"env": PENDULUM, **options}
    if "ref_min_score" not in options:
        options.pop("env")
    dataset = load(tmp_path, **options)
    assert (dataset.random_score, dataset.expert_score) == scores
    assert normalised_score(dataset, 30) == (25 if scores[0] else None)


def test_the_dataset_names_its_environment(tmp_path):
    write_episodes(tmp_path, env=PENDULUM)
    assert load_dataset("tests/counting-v0", root=tmp_path).env_name == PENDULUM
    assert load_dataset("tests/counting-v0", root=tmp_path, env_name=f"json:{PENDULUM}").num_episodes == 4


@pytest.mark.parametrize(
    ("fraction", "episodes"),
    [(1, range(8)), (0.9, (0, 1, 2, 4, 5, 6, 7)), (0.5, (1, 3, 5, 7)), (0.25, (2, 6)), (0.001, (4,))],
)
def test_a_fraction_is_whole_episodes_from_all_over(tmp_path, fraction, episodes):
    write_episodes(tmp_path, (3, 5) * 4)
    dataset = load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, fraction=fraction)
    wanted = [(episode, step) for episode in episodes for step in range(5 if episode % 2 else 3)]
    assert dataset.records["observation"][:, :2].tolist() == [list(step) for step in wanted]
    assert dataset.num_episodes == len(episodes)
    assert dataset.records["time_step"].flatten().tolist() == [step for _, step in wanted]


def test_reading_is_quiet_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "datasets"
    write_episodes(root)
    before = sorted(tmp_path.glob("**/*"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    monkeypatch.setattr(minari, "download_dataset", lambda dataset_id: pytest.fail("the dataset is here"))
    assert load_dataset("tests/counting-v0", env_name=PENDULUM).num_transitions == 17
    assert sorted(tmp_path.glob("**/*")) == before
    assert capfd.readouterr() == ("", "")


def test_a_dataset_made_again_is_read_again(tmp_path):
    assert load(tmp_path).num_transitions == 17
    shutil.rmtree(tmp_path / "tests" / "counting-v0")
    assert load(tmp_path, lengths=(2, 2)).num_transitions == 4


def test_a_dataset_is_downloaded_once(tmp_path, monkeypatch):
    def download(dataset_id):
        (tmp_path / "source" / dataset_id).rename(tmp_path / "root" / dataset_id)

    write_episodes(tmp_path / "source", dataset_id="counting-v0")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address: [])
    monkeypatch.setattr(minari, "download_dataset", download)
    for _ in range(2):
        assert load_dataset("counting-v0", root=tmp_path / "root", env_name=PENDULUM).num_transitions == 17


def test_a_dataset_of_minaris_own_server_works_as_it_is(tmp_path, monkeypatch):
    """A local one of the same name and structure: environment, float64, infos beside, no references."""

    def add_infos(_, entries):
        entries["infos"] = {"x_position": np.zeros(len(entries["observations"]))}

    def download(dataset_id):
        (tmp_path / "root" / dataset_id).parent.mkdir(parents=True)
        (tmp_path / "server" / dataset_id).rename(tmp_path / "root" / dataset_id)

    env = gymnasium.spec("Hopper-v5")
    spaces = {"observations": Box(-np.inf, np.inf, (11,), np.float64), "actions": Box(-1, 1, (3,), np.float32)}
    write_episodes(tmp_path / "server", dataset_id="mujoco/hopper/medium-v0", change=add_infos, env=env, **spaces)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address: [])
    monkeypatch.setattr(minari, "download_dataset", download)
    dataset = load_dataset("mujoco/hopper/medium-v0", root=tmp_path / "root")
    assert (dataset.env_name, dataset.num_episodes, dataset.observation_shape) == ("Hopper-v5", 4, (11,))
    assert (dataset.random_score, dataset.expert_score) == (-20.272305, 3234.3)  # D4RL's
    assert normalised_score(dataset, 3234.3) == 100


def test_one_episode_is_enough(tmp_path):
    assert load(tmp_path, lengths=(3,)).records["time_step"].flatten().tolist() == [0, 1, 2]


def test_episodes_are_in_the_order_of_their_numbers(tmp_path):
    numbers = load(tmp_path, lengths=(1,) * 12).records["episode"]  # by name, episode_10 would follow episode_1
    assert numbers.tolist() == list(range(12))


def test_returns_are_scaled_by_the_largest_return_to_go(tmp_path):
    """Where rewards cancel, no episode has a return: what is left to come still has to fit."""

    def cancel(_, entries):
        entries["rewards"][:] = [1, 1, 1, -1, -1, -1]

    dataset = load(tmp_path, lengths=(6, 6), change=cancel)
    assert dataset.episode_returns().tolist() == [0, 0]
    assert dataset.records["return_to_go"][:6, 0].tolist() == [0, -1, -2, -3, -2, -1]
    assert dataset.return_scale == 3


def test_returns_of_a_long_episode_cost_no_more_than_its_length():
    """A convolution would take minutes and gigabytes for a million steps."""
    length = 1_000_000
    steps = TensorDict(
        {
            "observation": torch.zeros(length, 1),
            "action": torch.zeros(length, 1),
            "episode": (torch.arange(length) == length - 1).long(),
            "next": {"reward": torch.full((length, 1), 0.1, dtype=torch.float64)},
        },
        [length],
    )
    records = make_records(steps, Box(-1, 1, (1,), np.float32), "long-v0")
    wanted = 0.1 * torch.arange(length - 1, 0, -1, dtype=torch.float64)
    torch.testing.assert_close(records["return_to_go"][:-1, 0].double(), wanted, rtol=1e-6, atol=0)
    assert records["return_to_go"][-1].item() == pytest.approx(0.1)
