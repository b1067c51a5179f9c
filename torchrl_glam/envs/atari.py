"""Make the environment that the rest of the package expects from a name: one, or several side by side.

Atari (ALE v5) is the case that the paper measures. Any other Gymnasium environment that observes images, numbers or
both, and whose actions are discrete or continuous and bounded, comes out with the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import AtariPreprocessing
from torchrl.envs import Compose, EndOfLifeTransform, EnvBase, GymWrapper, RenameTransform, SerialEnv, TransformedEnv

from torchrl_glam.envs.adapt import finish_env
from torchrl_glam.envs.ale_vector import make_ale_vector
from torchrl_glam.envs.gymnasium import find_spec, is_ale, make_game
from torchrl_glam.envs.observations import observation_transforms
from torchrl_glam.envs.wrappers import SkipFrames
from torchrl_glam.errors import UsageError


@dataclass(frozen=True)
class EvaluationProtocol:
    """Rules by which an Atari score is measured. Scores of different protocols cannot be compared.

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
    name: str | EnvSpec,
    *,
    protocol: str = "glam",
    seed: int | None = None,
    frame_skip: int | None = None,
    observation: str = "auto",
    pixels_key: str | None = None,
    image_size: int | None = 64,
    color: str = "rgb",
    num_envs: int = 1,
) -> TransformedEnv:
    """Make the environment called ``name``.

    Its keys are those of :func:`torchrl_glam.envs.adapt_env`, rewards unclipped. ``life_loss`` is set where a life is
    lost or the episode terminates, which by itself resets nothing. ALE games also count their ``lives``, from which
    torchrl finds a loss.

    Args:
        name: ``"ALE/Pong-v5"``, or any Gymnasium name, also as ``"module:Name-v0"``; or a specification, whose
            arguments may be its own.
        protocol: a key of ``PROTOCOLS``; only ALE games have sticky actions and no-ops.
        seed: the same seed gives the same run, in which every episode differs. ``None`` takes one from the system.
        frame_skip: emulator frames per step, of which the last two are merged by their maximum, if an image is all that
            is observed. ``None`` means 4 for an ALE game and 1 for anything else.
        observation: what is observed, see :func:`torchrl_glam.envs.adapt_env`. An image that is wanted and not observed
            is rendered.
        pixels_key: the entry that is the image, of nested ones as ``"front.rgb"``.
        image_size, color: of ``pixels``, see :func:`torchrl_glam.envs.adapt_env`.
        num_envs: 1 makes an environment without batch dimensions, more make one of batch size [num_envs]. ALE games run
            in threads then, see :mod:`torchrl_glam.envs.ale_vector`, others one after the other.

    Raises:
        UsageError: if name, protocol or a number does not exist, or the environment lacks suitable actions, or what is
            to be observed.

    Examples:
        >>> env = make_atari_env("ALE/Pong-v5", seed=0)
        >>> env.rollout(3)["next", "pixels"].shape
        torch.Size([3, 64, 64, 3])
        >>> make_atari_env("ALE/Pong-v5", seed=0, num_envs=2).rollout(3)["next", "pixels"].shape
        torch.Size([2, 3, 64, 64, 3])
    """
    spec = find_spec(name) if isinstance(name, str) else name
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol={protocol!r} does not exist: use one of {', '.join(PROTOCOLS)}")
    for option, number in {"frame_skip": frame_skip, "image_size": image_size, "num_envs": num_envs}.items():
        if number is not None and number < 1:
            raise UsageError(f"{option}={number} cannot be: use 1 or more")
    key = tuple(pixels_key.split(".")) if pixels_key is not None and "." in pixels_key else pixels_key
    options: dict[str, Any] = {"observation": observation, "pixels_key": key, "image_size": image_size, "color": color}
    rules, make_one = PROTOCOLS[protocol], partial(_make_game, spec, PROTOCOLS[protocol], frame_skip, image_size)

    def make_observed(env: EnvBase) -> TransformedEnv:
        return TransformedEnv(env, Compose(*observation_transforms(env, **options)), auto_unwrap=True)

    if is_ale(spec) and num_envs > 1:
        env = make_observed(_make_ale_games(spec, rules, frame_skip or 4, image_size, num_envs))
    elif num_envs > 1:  # torchrl 0.14.1 cannot step some of a SerialEnv if what is behind it changes their types
        env = SerialEnv(num_envs, lambda: make_observed(make_one(observation, pixels_key)))
    else:
        env = make_observed(make_one(observation, pixels_key))
    env = finish_env(env)
    if seed is not None:
        env.set_seed(seed)
    return env


def _make_game(
    spec: EnvSpec,
    rules: EvaluationProtocol,
    frame_skip: int | None,
    image_size: int | None,
    observation: str,
    pixels_key: str | None,
) -> EnvBase:
    """One game, ALE's or another."""
    sticky = {"frameskip": 1, "repeat_action_probability": rules.repeat_action_probability, "full_action_space": False}
    game = make_game(spec, observation, pixels_key, **(sticky if is_ale(spec) else {}))
    if hasattr(game.unwrapped, "ale"):
        size = image_size or _screen_size(game)[::-1]
        game = AtariPreprocessing(game, rules.noop_max, frame_skip or 4, size, grayscale_obs=False)
        return TransformedEnv(GymWrapper(game), EndOfLifeTransform("life_loss", done_key="terminated"))
    return GymWrapper(SkipFrames(game, frame_skip) if frame_skip and frame_skip > 1 else game)


def _screen_size(game: gymnasium.Env) -> tuple[int, int]:
    """Height and width of a game's own screen."""
    height, width, _ = game.observation_space.shape or ()
    return height, width


def _make_ale_games(
    spec: EnvSpec, rules: EvaluationProtocol, frame_skip: int, image_size: int | None, num_envs: int
) -> EnvBase:
    """Several ALE games, stepped together."""
    games = make_ale_vector(
        spec.kwargs["game"],
        num_envs,
        frame_skip=frame_skip,
        screen=(image_size, image_size) if image_size else _screen_size(make_game(spec)),
        noop_max=rules.noop_max,
        repeat_action_probability=rules.repeat_action_probability,
    )
    life_loss = EndOfLifeTransform("life_loss", done_key="terminated", eol_attribute="lives")
    return TransformedEnv(GymWrapper(games), Compose(life_loss, RenameTransform(["observation"], ["pixels"])))
