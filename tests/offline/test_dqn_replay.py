"""Files of the DQN replay's format, made here, as a Minari dataset; every frame names its step."""

from __future__ import annotations

import gzip
import io
import runpy
import sys

import numpy as np
import pytest
import torch

from tests.support.paths import EXAMPLES
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.dataset import load_dataset
from torchrl_glam.offline.dqn_replay import import_dqn_replay

GAME = "ALE/Pong-v5"
ENDS = (4, 11, 17)  # steps after which episodes are over
CHECKPOINT = 10  # steps


def save(folder, name, number, array):
    with gzip.open(folder / f"$store$_{name}_ckpt.{number}.gz", "wb") as file:
        np.save(file, array)


@pytest.fixture
def logs(tmp_path):
    """Two checkpoints; three black frames before the second episode, whose steps are in both."""
    folder = tmp_path / "replay_logs"
    folder.mkdir()
    steps = np.arange(2 * CHECKPOINT)
    padded = np.isin(steps, (5, 6, 7))
    entries = {
        "observation": np.broadcast_to(np.where(padded, 0, steps + 1)[:, None, None], (len(steps), 84, 84)),
        "action": np.where(padded, 0, steps % 6),
        "reward": np.where(padded, 0, (steps + 1) / 8),
        "terminal": np.isin(steps, ENDS),
    }
    types = {"observation": np.uint8, "action": np.int32, "reward": np.float32, "terminal": np.uint8}
    for number in range(2):
        part = slice(number * CHECKPOINT, (number + 1) * CHECKPOINT)
        for name, entry in entries.items():
            save(folder, name, number, entry[part].astype(types[name]))
    return folder


def load(root, **options):
    return load_dataset("pong/dqn-replay-v0", root=root, download=False, **options)


def test_whole_episodes_come_back_without_padding(logs, tmp_path):
    root = tmp_path / "datasets"
    assert import_dqn_replay(logs, GAME, "pong/dqn-replay-v0", root=root) == 3
    dataset = load(root)
    steps = torch.tensor([*range(5), *range(8, 18)])  # the last two are of an episode that has not ended
    records = dataset.records
    assert dataset.env_name == GAME
    assert dataset.observation_shape == (84, 84, 1)
    assert records["observation"].shape == (15, 84, 84, 1)
    assert torch.equal(records["observation"][:, 0, 0, 0].long(), steps + 1)
    assert torch.equal(records["action"].argmax(1), steps % 6)
    assert torch.equal(records["next", "reward"].flatten(), (steps + 1) / 8)
    assert records["time_step"].flatten().tolist() == [*range(5), *range(4), *range(6)]
    assert (dataset.random_score, dataset.expert_score) == (-21, 15)


def test_a_share_of_the_episodes(logs, tmp_path):
    assert import_dqn_replay(logs, GAME, "pong/dqn-replay-v0", root=tmp_path, fraction=0.3) == 1
    assert load(tmp_path).records["observation"][:, 0, 0, 0].tolist() == [9, 10, 11, 12]


def test_an_episode_whose_beginning_is_missing_is_left_out(logs, tmp_path):
    for path in logs.glob("*.0.gz"):
        path.unlink()
    assert import_dqn_replay(logs, GAME, "pong/dqn-replay-v0", root=tmp_path) == 1
    assert load(tmp_path).records["observation"][:, 0, 0, 0].tolist() == [*range(13, 19)]


def test_the_command(logs, tmp_path, monkeypatch, capsys):
    command = ["import", f"folder={logs}", f"env_name={GAME}", "fraction=0.01", f"root={tmp_path / 'datasets'}"]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(EXAMPLES / "import_dqn_replay.py"), run_name="__main__")
    assert f"dataset pong/dqn-replay-v0 in {tmp_path / 'datasets'}, episodes: 1" in capsys.readouterr().out
    assert load(tmp_path / "datasets").num_episodes == 1


def cut(folder):
    path = folder / "$store$_observation_ckpt.0.gz"
    path.write_bytes(path.read_bytes()[:-40])


def pickled(folder):
    stream = io.BytesIO()
    np.save(stream, np.array([{}] * CHECKPOINT, dtype=object), allow_pickle=True)
    (folder / "$store$_reward_ckpt.1.gz").write_bytes(gzip.compress(stream.getvalue()))


@pytest.mark.parametrize(
    ("change", "options", "line"),
    [
        (lambda logs: [path.unlink() for path in logs.iterdir()], {}, r"has no \$store\$_terminal_ckpt.0.gz: give the"),
        (lambda logs: (logs / "$store$_action_ckpt.1.gz").unlink(), {}, r"action_ckpt.1.gz cannot be read \(No such"),
        (cut, {}, r"observation_ckpt.0.gz cannot be read \(.*ended.*\): copy it again"),
        (lambda logs: (logs / "$store$_reward_ckpt.0.gz").write_bytes(b"?"), {}, r"reward_ckpt.0.gz cannot be read"),
        (pickled, {}, r"reward_ckpt.1.gz cannot be read \(an array \[10\] of object"),
        (lambda logs: save(logs, "reward", 0, np.zeros(3)), {}, r"checkpoint 0 has 10 of action, 3 of reward"),
        (
            lambda logs: save(logs, "action", 0, np.full(CHECKPOINT, 17)),
            {},
            "has the action 17, and ALE/Pong-v5 has 6",
        ),
        (lambda logs: save(logs, "observation", 1, np.zeros((CHECKPOINT, 64, 64), np.uint8)), {}, r"frames \[10, 64"),
        (lambda logs: [save(logs, "terminal", n, np.zeros(CHECKPOINT)) for n in (0, 1)], {}, r"holds no whole episode"),
        (lambda logs: None, {"env_name": "CartPole-v1"}, "env_name=CartPole-v1 is no game of the ALE"),
        (lambda logs: None, {"fraction": 0.0}, "fraction=0.0: give the share"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(logs, tmp_path, change, options, line):
    change(logs)
    root = tmp_path / "datasets"
    given = {"env_name": GAME, **options}
    with pytest.raises(UsageError, match=line) as error:
        import_dqn_replay(logs, dataset_id="pong/dqn-replay-v0", root=root, **given)
    assert "\n" not in str(error.value)
    assert not list(root.glob("**/*.hdf5"))
