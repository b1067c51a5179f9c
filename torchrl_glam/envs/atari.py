"""From a Gymnasium name to the pixel environment that the rest of the package expects.

Atari (ALE v5) is the case that the paper measures. Any other Gymnasium environment with discrete actions and an image,
observed or rendered, comes out with the same keys.
"""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import dataclass
from typing import Any

import ale_py
import cv2
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import (
    AddRenderObservation,
    AtariPreprocessing,
    MaxAndSkipObservation,
    TransformAction,
    TransformObservation,
)
from tensordict import TensorDictBase
from torchrl.data import Composite
from torchrl.envs import (
    Compose,
    EndOfLifeTransform,
    GymWrapper,
    InitTracker,
    RewardSum,
    StepCounter,
    Transform,
    TransformedEnv,
)

from torchrl_glam.errors import UsageError


@dataclass(frozen=True)
class EvaluationProtocol:
    """How an Atari score is measured; scores of different protocols do not compare.

    Args:
        repeat_action_probability: the chance, at each emulator frame, that the last action is repeated ("sticky").
        noop_max: an episode starts with 1 to this many no-ops; 0 means none.
        evaluation_episodes: the number of episodes that a score is the mean of.
    """

    repeat_action_probability: float
    noop_max: int
    evaluation_episodes: int


PROTOCOLS = {
    # The paper's: ALE v5 as Machado et al. (2018) advise, 20 episodes (GLAM, Table 1).
    "glam": EvaluationProtocol(repeat_action_probability=0.25, noop_max=0, evaluation_episodes=20),
    # The one most Atari-100k papers use, DQN's (Mnih et al., 2015), with 100 episodes (Agarwal et al., 2021).
    "standard": EvaluationProtocol(repeat_action_probability=0.0, noop_max=30, evaluation_episodes=100),
}


def make_atari_env(
    name: str,
    *,
    protocol: str = "glam",
    seed: int | None = None,
    frame_skip: int | None = None,
    image_size: int = 64,
) -> TransformedEnv:
    """Makes the environment called ``name``.

    Its keys, ``s`` being ``image_size``: ``pixels`` [s s 3] uint8; ``action``, one-hot; ``reward``, unclipped;
    ``life_loss`` [1] bool, set where a life is lost or the episode terminates, which by itself resets nothing;
    ``terminated``, ``truncated``, ``done``; ``episode_reward``, ``step_count``, ``is_init``. ALE games also count their
    ``lives``, from which torchrl finds a loss.

    Args:
        name: ``"ALE/Pong-v5"``, or any Gymnasium name, also as ``"module:Name-v0"``.
        protocol: a key of ``PROTOCOLS``; only ALE games have sticky actions and no-ops.
        seed: the same seed gives the same run, in which every episode differs. ``None`` takes one from the system.
        frame_skip: emulator frames per step, of which the last two are merged by their maximum. ``None`` means 4 for an
            ALE game and 1 for anything else.
        image_size: height and width of ``pixels``.

    Raises:
        UsageError: if name, protocol or frame skip do not exist, or the environment lacks image or discrete actions.

    Examples:
        >>> env = make_atari_env("ALE/Pong-v5", seed=0)
        >>> env.rollout(3)["next", "pixels"].shape
        torch.Size([3, 64, 64, 3])
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol={protocol!r} does not exist: use one of {', '.join(PROTOCOLS)}")
    if frame_skip is not None and frame_skip < 1:
        raise UsageError(f"frame_skip={frame_skip} is no number of frames: use 1 or more")
    rules = PROTOCOLS[protocol]
    raw = _make_gymnasium(name, rules)
    has_lives = hasattr(raw.unwrapped, "ale")
    if has_lives:
        raw = AtariPreprocessing(raw, rules.noop_max, frame_skip or 4, image_size, grayscale_obs=False)
    else:
        raw = _as_pixels(raw, name, frame_skip or 1, image_size)
    life_loss = EndOfLifeTransform("life_loss", done_key="terminated") if has_lives else TerminationIsLifeLoss()
    env = TransformedEnv(GymWrapper(raw), Compose(life_loss, RewardSum(), StepCounter(), InitTracker()))
    if seed is not None:
        env.set_seed(seed)
    return env


class TerminationIsLifeLoss(Transform):
    """Sets ``life_loss`` where a game without lives terminates, so that every environment has the key."""

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        return next_tensordict.set("life_loss", next_tensordict["terminated"].clone())

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return tensordict_reset.set("life_loss", self.parent.full_done_spec["terminated"].zero())

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Adds the spec of ``life_loss``, which is that of ``terminated``."""
        observation_spec["life_loss"] = self.parent.full_done_spec["terminated"].clone()
        return observation_spec


def _make_gymnasium(name: str, rules: EvaluationProtocol) -> gymnasium.Env:
    """Makes the bare environment, one emulator frame per step."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # static: before the first emulator prints its banner
    spec = _find_spec(name)
    kwargs: dict[str, Any] = {}
    if _is_ale(spec):
        kwargs = {
            "frameskip": 1,
            "repeat_action_probability": rules.repeat_action_probability,
            "full_action_space": False,
        }
    try:
        env = gymnasium.make(spec, **kwargs)
        if not hasattr(env.unwrapped, "ale") and not _is_image(env.observation_space):
            env = _make_rendered(env, name)
    except UsageError:
        raise
    except Exception as error:  # whatever the constructor of somebody's environment may raise
        cause = " ".join(str(error).split()) or type(error).__name__  # in one line
        raise UsageError(f"{name!r} could not be made: {cause}") from error
    if not isinstance(env.action_space, Discrete):
        raise UsageError(f"{name!r} has the actions {env.action_space}: choose an environment with Discrete actions")
    if env.action_space.start:  # torchrl 0.14.1 counts one-hot actions from 0, whatever the start
        start, number = int(env.action_space.start), int(env.action_space.n)
        env = TransformAction(env, lambda action: action + start, Discrete(number))
    return env


def _make_rendered(env: gymnasium.Env, name: str) -> gymnasium.Env:
    """Makes ``env`` again, with its rendering as the observation."""
    if env.spec is None or "rgb_array" not in env.metadata.get("render_modes", ()):
        raise UsageError(
            f"{name!r} observes {env.observation_space} and renders no rgb_array: choose an environment whose "
            "observation is a uint8 image [h w 3], [h w 1] or [h w], or which renders one"
        )
    env.close()
    return AddRenderObservation(gymnasium.make(env.spec, render_mode="rgb_array"), render_only=True)


def _as_pixels(env: gymnasium.Env, name: str, frame_skip: int, image_size: int) -> gymnasium.Env:
    """Skips frames and turns the image, colour or grey, into RGB of ``image_size``."""
    if frame_skip > 1:
        env = MaxAndSkipObservation(env, frame_skip)

    def resize(image: np.ndarray) -> np.ndarray:
        # A copy even where the size fits: some environments draw every frame into the same array.
        image = np.array(image) if image.shape[:2] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return image if image.ndim == 3 and image.shape[-1] == 3 else np.repeat(image.reshape(*size, 1), 3, axis=-1)

    size = (image_size, image_size)
    return TransformObservation(env, resize, Box(0, 255, (*size, 3), np.uint8))


def _is_image(space: gymnasium.Space) -> bool:
    """Whether observations are uint8 images [h w 3], [h w 1] or [h w]."""
    if not isinstance(space, Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[-1] in (1, 3))


def _is_ale(spec: gymnasium.envs.registration.EnvSpec) -> bool:
    return str(spec.entry_point).startswith("ale_py")


def _find_spec(name: str) -> gymnasium.envs.registration.EnvSpec:
    """Looks up ``name``, or ``module:name`` after importing the module."""
    module, _, short_name = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"{name!r} wants the module {module!r}, which cannot be imported: {error}") from error
    spec = gymnasium.registry.get(short_name)
    # ale-py also registers v0 and v4 of each game, whose settings are not the protocols'.
    if spec is None or (_is_ale(spec) and spec.namespace != "ALE"):
        matches = _near_matches(short_name)
        advice = f"did you mean {' or '.join(matches)}?" if matches else "list all by gymnasium.pprint_registry()"
        raise UsageError(f"there is no environment {name!r}: {advice}")
    return spec


def _near_matches(name: str) -> list[str]:
    """The registered names nearest to ``name``, compared without namespace, version, suffixes and case."""

    def bare(name: str) -> str:
        return re.sub(r"(noframeskip|deterministic|-ram)*(-v\d+)?$", "", name.rpartition("/")[2].lower())

    newest: dict[str, str] = {}
    for spec in sorted(
        gymnasium.registry.values(), key=lambda spec: (spec.namespace in (None, "ALE"), spec.version or 0)
    ):
        if not _is_ale(spec) or spec.namespace == "ALE":
            newest[bare(spec.id)] = spec.id
    exact = newest.get(bare(name))
    return [exact] if exact else [newest[match] for match in difflib.get_close_matches(bare(name), newest)]
