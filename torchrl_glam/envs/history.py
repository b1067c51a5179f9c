"""The actions that led an environment to its state, so that another process can restore it."""

from __future__ import annotations

from typing import Any

import ale_py
import numpy as np
import torch
from gymnasium.wrappers import AtariPreprocessing
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase, GymWrapper, Transform, TransformedEnv

from torchrl_glam.errors import UsageError


class EnvHistory(Transform):
    """Remembers an environment's actions: of a single ALE game since its episode began, of any other since the start.

    A fresh environment that is made and seeded alike repeats them and is then in the same state: :meth:`replay`. This
    asks nothing of an environment but that it repeats itself. For a single ALE game, the episode's first state comes
    from the emulator, with its random numbers. (Not its state of now: what ale-py 0.12.1 clones lacks the last action,
    which a sticky one repeats, so that one in seven clones went on differently.)

    Append it to the environment before a collector gets that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._actions: list[torch.Tensor] = []
        self._first: dict[str, Any] | None = None  # of the episode of a single ALE game

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._actions.append(_compact(tensordict["action"]))  # as the policy gave it, not yet rescaled
        return tensordict

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        if (game := single_game(self.parent)) is not None:
            self._actions.clear()
            self._first = {"root": _leaves(tensordict_reset), "game": game_state(game)}
        return tensordict_reset

    def history(self) -> dict[str, Any]:
        """Plain tensors, numbers and texts, for a checkpoint."""
        return {"actions": torch.stack(self._actions) if self._actions else None, "first": self._first}

    def replay(self, env: EnvBase, root: TensorDictBase, history: dict[str, Any], wanted: TensorDictBase) -> None:
        """Bring ``env``, which this transform is part of, to where the environment was that ``history`` is of.

        Args:
            env: made and seeded alike, and reset once.
            root: what that reset returned.
            history: from :meth:`history`.
            wanted: what its last step left, to compare with.

        Raises:
            UsageError: if the environment does not repeat itself.
        """
        self._actions.clear()
        if (first := history["first"]) is not None and (game := single_game(env)) is not None:
            restore_game(game, first["game"])
            self._first, root = first, root.clone().update(first["root"])
        actions = () if history["actions"] is None else history["actions"]
        with torch.no_grad():
            for action in actions:
                root.set("action", action.to(env.action_spec.dtype))
                _, root = env.step_and_maybe_reset(root)
        for key, value in _leaves(root).items():
            there = wanted.get(tuple(key.split(".")), None)
            if there is not None and not torch.equal(value, there.to(value.device)):
                raise UsageError(
                    f"the environment did not repeat itself: after the same {len(actions)} actions its {key} is "
                    "another one. Is it seeded, and the same version? resume=force starts a new episode"
                )


def _compact(action: torch.Tensor) -> torch.Tensor:
    return action.to("cpu", torch.uint8 if action.dtype == torch.int64 else action.dtype, copy=True)


def _leaves(tensordict: TensorDictBase) -> dict[str, torch.Tensor]:
    """Return the entries that an environment gave: not the policy's memory, a collector's counts or the next action."""
    return to_state(tensordict.exclude("context", "collector", "action", "next"))


def single_game(env: EnvBase | None) -> AtariPreprocessing | None:
    """Return the game of an environment that is one ALE emulator, as ``make_atari_env`` makes it."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    game = env._env if isinstance(env, GymWrapper) else None
    if not isinstance(game, AtariPreprocessing):
        return None
    return game if isinstance(getattr(game.unwrapped, "ale", None), ale_py.ALEInterface) else None


def game_state(game: Any) -> dict[str, Any]:
    """Return all that a game's next steps depend on, right after a reset."""
    return {
        "emulator": torch.frombuffer(
            bytearray(game.unwrapped.ale.cloneState(include_rng=True).serialize()), dtype=torch.uint8
        ),
        "screens": [torch.from_numpy(screen.copy()) for screen in game.obs_buffer],
        "lives": int(game.lives),
        "game_over": bool(game.game_over),
        "random": game.unwrapped.np_random.bit_generator.state,
    }


def restore_game(game: Any, state: dict[str, Any]) -> None:
    game.unwrapped.ale.restoreState(ale_py.ALEState(state["emulator"].numpy().tobytes()))
    for screen, saved in zip(game.obs_buffer, state["screens"], strict=True):
        np.copyto(screen, saved.numpy())
    game.lives, game.game_over = state["lives"], state["game_over"]
    game.unwrapped.np_random.bit_generator.state = state["random"]


def to_state(tensordict: TensorDictBase) -> dict[str, torch.Tensor]:
    """Return the tensors of ``tensordict`` by their dotted names, copied, for a checkpoint."""
    leaves = tensordict.flatten_keys(".").items()
    return {key: value.clone() for key, value in leaves if isinstance(value, torch.Tensor)}


def from_state(state: dict[str, torch.Tensor], like: TensorDictBase) -> TensorDict:
    """Restore the tensordict that :func:`to_state` was given; batch size and device as ``like``'s."""
    flat = TensorDict(state, batch_size=like.batch_size)
    return flat.unflatten_keys(".").to(like.device) if like.device is not None else flat.unflatten_keys(".")
