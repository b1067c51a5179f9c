"""Records for sequence models, from the steps of a Minari dataset.

``n`` steps of whole episodes, ``o`` observation size, ``h w c`` pixels, ``a`` action size.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from torchrl_glam.errors import UsageError, one_line

TOLERANCE = 1e-4  # how far outside its bounds, in parts of their distance, rounding may have put an action


def choose_episodes(steps: TensorDictBase, fraction: float) -> TensorDictBase:
    """Return the steps of a share of the episodes: always the same ones, spread evenly over all, at least one."""
    if fraction == 1:
        return steps
    numbers = steps["episode"].unique_consecutive()
    return steps[torch.isin(steps["episode"], numbers[choose_evenly(len(numbers), fraction)])]


def choose_evenly(count: int, fraction: float) -> Tensor:
    """Return the places, among ``count``, of a share of them, spread evenly, at least one.

    Examples:
        >>> from torchrl_glam.offline.records import choose_evenly
        >>> choose_evenly(8, 0.25).tolist()
        [2, 6]
    """
    kept = max(1, round(fraction * count))
    return ((torch.arange(kept) + 0.5) * count / kept).long()


def make_records(steps: TensorDictBase, action_space: Space, dataset_id: str) -> TensorDict:
    """Make the records of :class:`~torchrl_glam.offline.dataset.OfflineDataset` from steps [n].

    An episode ends where its number changes, not by its flags: a recording may stop without one.

    Args:
        steps: with ``observation``, ``action``, ``("next", "reward")`` and ``episode``, the number of each.
        action_space: a ``Discrete`` or ``Box`` with one dimension.
        dataset_id: for errors.

    Raises:
        UsageError: if rewards, observations or actions are not finite, or actions not in their space.
    """
    episode, observation = steps["episode"], steps["observation"]
    changes = episode[1:] != episode[:-1]
    first, last = torch.ones(2, len(episode), dtype=torch.bool)
    first[1:], last[:-1] = changes, changes
    at = torch.arange(len(episode))
    reward, done = steps["next", "reward"].float(), last.unsqueeze(-1)
    if observation.dtype != torch.uint8 or observation.ndim == 2:  # the latter an ALE game's memory
        observation = observation.float()
    for name, values in (("rewards", reward), ("observations", observation), ("actions", steps["action"])):
        if values.dtype.is_floating_point:
            _refuse_steps(
                ~torch.isfinite(values), episode, dataset_id, f"{name} that are missing or not finite (nan, inf)"
            )
    return TensorDict(
        {
            "observation": observation,
            "action": _encode_actions(steps["action"], action_space, episode, dataset_id),
            "return_to_go": _sum_to_come(reward, last),
            "time_step": (at - torch.where(first, at, 0).cummax(0).values).unsqueeze(-1),
            "episode": episode,
            "next": {"reward": reward, "done": done},
        },
        [len(episode)],
    )


def _sum_to_come(reward: Tensor, last: Tensor) -> Tensor:
    """Return the undiscounted returns-to-go [n 1], where ``last`` [n] marks the steps at which episodes end.

    Each episode is summed from its end, in float64. (TorchRL's ``reward2go`` (0.14.1) is a convolution: its time grows
    with the square of the longest episode.)
    """
    ends = (last.nonzero().flatten() + 1).tolist()
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    parts = [part.flip(0).cumsum(0).flip(0) for part in reward.double().split(lengths)]
    return torch.cat(parts).to(reward.dtype)


def _encode_actions(action: Tensor, space: Space, episode: Tensor, dataset_id: str) -> Tensor:
    """Return actions as float32 [n a]: ``Discrete`` ones one-hot, those of a ``Box`` unchanged."""
    outside = f"actions that are not in {one_line(space)}"
    if isinstance(space, Box):
        low, high = (torch.from_numpy(bound.astype(np.float32)) for bound in (space.low, space.high))
        action, slack = action.float(), TOLERANCE * (high - low)
        _refuse_steps((action < low - slack) | (action > high + slack), episode, dataset_id, outside)
        return torch.clamp(action, low, high)
    number = int(space.n)  # type: ignore[attr-defined]
    action = action.flatten().long() - int(space.start)  # type: ignore[attr-defined]
    _refuse_steps((action < 0) | (action >= number), episode, dataset_id, outside)
    return torch.nn.functional.one_hot(action, number).float()


def _refuse_steps(bad: Tensor, episode: Tensor, dataset_id: str, fault: str) -> None:
    """Raise an error if any step has a true entry in ``bad`` [n ..]."""
    steps = bad.reshape(len(episode), -1).any(1)
    if steps.any():
        number = int(episode[steps][0])
        raise UsageError(
            f"the dataset {dataset_id} has {fault}, in {int(steps.sum())} of {len(steps)} steps, the first of them in "
            f"episode {number}: record it again without these"
        )
