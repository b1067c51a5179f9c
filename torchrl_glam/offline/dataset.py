"""A Minari dataset as records for sequence models: observations, actions, returns-to-go, times.

``n`` steps of the dataset, ``o`` observation size, ``h w c`` pixels, ``a`` action size, ``e`` episodes.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium.envs.registration import EnvSpec
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import TensorSpec

from torchrl_glam.data.minari_files import datasets_root
from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.envs.scores import game_name, reference_scores
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.environment import check_fits, make_action_spec, make_observation_shape
from torchrl_glam.offline.minari_reading import find_dataset, read_steps
from torchrl_glam.offline.recorded import recorded_spec
from torchrl_glam.offline.records import choose_episodes, make_records

LEAST_SCALE = 1e-6
D4RL = Path(__file__).with_name("data") / "d4rl.csv"


@dataclass(frozen=True, eq=False)
class OfflineDataset:
    """Steps of whole episodes, their spaces and reference scores.

    Args:
        dataset_id: Minari's.
        env_name: the Gymnasium environment in which they were recorded.
        records: [n], episode after episode: ``observation`` [n o] float32 or [n h w c] uint8, ``action`` [n a] float32,
            one-hot where actions are discrete, ``return_to_go`` [n 1] undiscounted, the step's reward included,
            ``time_step`` [n 1] int64, from 0 in each episode, ``episode`` [n] int64, its number in the dataset,
            ``("next", "reward")`` [n 1], and ``("next", "done")`` [n 1], true only at each episode's last step.
        observation_shape: (o,) or (h, w, c), of an observation of ``stack`` frames.
        action_spec: ``OneHot``, or ``Bounded`` with one dimension.
        random_score: mean undiscounted return of a random policy, if known.
        expert_score: of an expert; of a human player in an ALE game whose dataset has no references.
        env_spec: that environment with the arguments, the time limit and the wrappers that it was recorded with.
        stack: frames of an observation; ``records`` hold single ones, which windows stack.
    """

    dataset_id: str
    env_name: str | None
    records: TensorDict
    observation_shape: torch.Size
    action_spec: TensorSpec
    random_score: float | None = None
    expert_score: float | None = None
    env_spec: EnvSpec | None = None
    stack: int = 1

    @property
    def frame(self) -> torch.Size | None:
        """The shape (h, w, c) of one frame; ``None`` where vectors are observed."""
        if len(self.observation_shape) != 3:
            return None
        return torch.Size([*self.observation_shape[:2], self.observation_shape[2] // self.stack])

    @property
    def num_transitions(self) -> int:
        """The number of steps."""
        return len(self.records)

    @property
    def num_episodes(self) -> int:
        """The number of episodes."""
        return int(self.records["next", "done"].sum())

    @property
    def return_scale(self) -> float:
        """The largest absolute return-to-go of a step, by which returns are divided; at least 1e-6.

        Not that of an episode: where rewards cancel, what is left to come is larger than the whole.
        """
        return max(LEAST_SCALE, self.records["return_to_go"].abs().max().item())

    def episode_returns(self) -> Tensor:
        """Return the undiscounted returns [e] of the episodes, in the records' order."""
        return self.records["return_to_go"][self.records["time_step"] == 0]

    def fingerprint(self) -> str:
        """Return a hash of all entries; of images, of a thousand."""
        entries = {"observation": self.records["observation"], "action": self.records["action"]}
        entries |= {"reward": self.records["next", "reward"], "episode": self.records["episode"]}
        digest = hashlib.sha256(str(self.num_transitions).encode())
        for name, entry in entries.items():
            every = max(1, len(entry) // 1000) if entry.ndim > 2 else 1
            digest.update(name.encode() + entry[::every].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def observation_statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation over all steps, each [o]; for pixels 0 and 1, which change nothing."""
        observation = self.records["observation"]
        if observation.dtype == torch.uint8:
            return torch.zeros(self.observation_shape), torch.ones(self.observation_shape)
        std, mean = torch.std_mean(observation, 0, correction=0)
        return mean, std


def load_dataset(
    dataset_id: str,
    *,
    root: str | Path | None = None,
    env_name: str | None = None,
    fraction: float = 1.0,
    stack: int = 1,
    download: bool = True,
    trust: bool = False,
) -> OfflineDataset:
    """Load a Minari dataset into memory; one that is not on this machine is downloaded.

    Args:
        dataset_id: ``(namespace/)name-v0``.
        root: the folder of datasets; by default ``MINARI_DATASETS_PATH`` or Minari's own, ``~/.minari/datasets``.
        env_name: the environment in which it was recorded; needed where the dataset does not name it, as for those of
            :func:`torchrl_glam.runs.export.export_minari`. The environment of ``make_decision_env`` must have the
            observations and actions of the dataset.
        fraction: the share of its episodes that is loaded: always the same ones, spread evenly over the dataset, at
            least one.
        stack: frames of an observation, side by side in its channels: 4 in the Decision Transformer on Atari.
        download: ask Minari's server for a dataset that is not there.
        trust: import the environment that the dataset names, though it is not Gymnasium's or ale-py's; it may run any
            code. The package of an ``env_name`` that is given is trusted.

    Raises:
        UsageError: if there is no such dataset, it is damaged or empty, its spaces are unsupported or not its
            environment's, it names an environment of others, or rewards, observations or actions are not finite.

    Examples:
        >>> from torchrl_glam.offline.dataset import load_dataset
        >>> dataset = load_dataset("hopper/medium-v0")  # doctest: +SKIP
        >>> dataset.records["return_to_go"].shape  # doctest: +SKIP
        torch.Size([100000, 1])
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"data.fraction={fraction}: give the share of the episodes, above 0 and at most 1")
    folder = datasets_root(Path(root) if root is not None else None)
    dataset = find_dataset(dataset_id, folder, download=download, env_name=env_name, trust=trust)
    observation_shape = make_observation_shape(dataset_id, dataset)
    if stack < 1 or (stack > 1 and len(observation_shape) != 3):
        kind = "frames: give 1 or more" if len(observation_shape) == 3 else "vectors: leave it at 1"
        raise UsageError(f"data.stack={stack}, and the dataset {dataset_id} has {kind}")
    action_spec = make_action_spec(dataset_id, dataset.action_space)
    # Minari (0.5.4) keeps the environment that a dataset wants to be evaluated in, if it is another one, to itself.
    recorded = getattr(dataset, "_eval_env_spec", None) or dataset.env_spec
    env_name = _resolve_env(dataset_id, recorded, env_name)
    spec = recorded_spec(dataset_id, find_spec(env_name), recorded, pixels=len(observation_shape) == 3)
    check_fits(dataset_id, spec, observation_shape, action_spec)
    totals = {"total_steps": dataset.total_steps, "total_episodes": dataset.total_episodes}
    steps = read_steps(dataset_id, folder, **totals)
    records = make_records(choose_episodes(steps, fraction), dataset.action_space, dataset_id)
    random_score, expert_score = _find_references(dataset.storage.metadata, env_name)
    scores = (random_score, expert_score)
    if stack > 1:
        observation_shape = torch.Size([*observation_shape[:2], stack * observation_shape[2]])
    return OfflineDataset(dataset_id, env_name, records, observation_shape, action_spec, *scores, spec, stack)


def normalised_score(dataset: OfflineDataset, episode_return: float) -> float | None:
    """Map a return to the scale where a random policy has 0 and an expert 100 (D4RL, arXiv 2004.07219, Sec. 5).

    ``100 (return - random) / (expert - random)``

    Returns:
        The score, or ``None`` if the dataset has no references.
    """
    if dataset.random_score is None or dataset.expert_score is None:
        return None
    return 100 * (episode_return - dataset.random_score) / (dataset.expert_score - dataset.random_score)


def d4rl_scores(env_name: str) -> tuple[float | None, float | None]:
    """Return D4RL's scores of a random policy and of an expert (arXiv 2004.07219), for any version of its MuJoCo tasks.

    They are of the tasks' second version (mujoco-py). Minari's datasets are of the fifth, whose returns may differ.

    Examples:
        >>> from torchrl_glam.offline.dataset import d4rl_scores
        >>> d4rl_scores("Hopper-v5")
        (-20.272305, 3234.3)
    """
    name = env_name.rpartition(":")[2].rpartition("-v")[0]
    for row in csv.DictReader(D4RL.read_text().splitlines()):
        if row["environment"] == name:
            return float(row["random"]), float(row["expert"])
    return None, None


def _resolve_env(dataset_id: str, spec: EnvSpec | None, env_name: str | None) -> str:
    """Return the name of the dataset's environment; ``env_name``, which may name its module too, if it is given."""
    if spec is None and env_name is None:
        raise UsageError(f"the dataset {dataset_id} names no environment: give env.name, the one it was recorded in")
    if spec is None or env_name is None:
        return env_name or str(spec.id if spec else None)
    if env_name.rpartition(":")[2] != spec.id.rpartition(":")[2]:
        raise UsageError(
            f"the dataset {dataset_id} was recorded in {spec.id}, not in {env_name}: leave env.name out, or choose "
            "another dataset"
        )
    return env_name


def _find_references(metadata: Mapping[str, Any], env_name: str) -> tuple[float | None, float | None]:
    """Return the scores of a random policy and of an expert: the dataset's, or else of GLAM's Table 1 or of D4RL."""
    random, expert = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if random is None or expert is None:
        game = game_name(env_name)
        scores = reference_scores(game) if game else None
        random, expert = (scores.random, scores.human) if scores else d4rl_scores(env_name)
    if random is None or expert is None or random == expert or not math.isfinite(expert - random):
        return None, None
    return float(random), float(expert)
