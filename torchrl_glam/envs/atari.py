"""Make the pixel environment that the rest of the package expects from a name: one, or several side by side.

Atari (ALE v5) is the case that the paper measures. Any other Gymnasium environment with an image, observed or rendered,
and with discrete or bounded continuous actions comes out with the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import AtariPreprocessing
from torchrl.envs import EndOfLifeTransform, EnvBase, GymWrapper, SerialEnv, TransformedEnv

from torchrl_glam.envs.adapt import adapt_env
from torchrl_glam.envs.ale_vector import make_ale_vector
from torchrl_glam.envs.gymnasium import find_spec, is_ale, make_pixel_game
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
    name: str,
    *,
    protocol: str = "glam",
    seed: int | None = None,
    frame_skip: int | None = None,
    image_size: int = 64,
    num_envs: int = 1,
) -> TransformedEnv:
    """Make the environment called ``name``.

    Its keys are those of :func:`torchrl_glam.envs.adapt_env`, rewards unclipped. ``life_loss`` is set where a life is
    lost or the episode terminates, which by itself resets nothing. ALE games also count their ``lives``, from which
    torchrl finds a loss.

    Args:
        name: ``"ALE/Pong-v5"``, or any Gymnasium name, also as ``"module:Name-v0"``.
        protocol: a key of ``PROTOCOLS``; only ALE games have sticky actions and no-ops.
        seed: the same seed gives the same run, in which every episode differs. ``None`` takes one from the system.
        frame_skip: emulator frames per step, of which the last two are merged by their maximum. ``None`` means 4 for an
            ALE game and 1 for anything else.
        image_size: height and width of ``pixels``.
        num_envs: 1 makes an environment without batch dimensions, more make one of batch size [num_envs]. ALE games run
            in threads then, see :mod:`torchrl_glam.envs.ale_vector`, others one after the other.

    Raises:
        UsageError: if name, protocol or a number does not exist, or the environment lacks an image or suitable actions.

    Examples:
        >>> env = make_atari_env("ALE/Pong-v5", seed=0)
        >>> env.rollout(3)["next", "pixels"].shape
        torch.Size([3, 64, 64, 3])
        >>> make_atari_env("ALE/Pong-v5", seed=0, num_envs=2).rollout(3)["next", "pixels"].shape
        torch.Size([2, 3, 64, 64, 3])
    """
    return make_pixel_env(
        find_spec(name),
        protocol=protocol,
        seed=seed,
        frame_skip=frame_skip,
        image_size=image_size,
        num_envs=num_envs,
    )


def make_pixel_env(
    spec: EnvSpec,
    *,
    protocol: str = "glam",
    seed: int | None = None,
    frame_skip: int | None = None,
    image_size: int = 64,
    num_envs: int = 1,
) -> TransformedEnv:
    """Make an environment as :func:`make_atari_env` does, of a specification, which may have arguments of its own."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol={protocol!r} does not exist: use one of {', '.join(PROTOCOLS)}")
    for option, number in {"frame_skip": frame_skip, "image_size": image_size, "num_envs": num_envs}.items():
        if number is not None and number < 1:
            raise UsageError(f"{option}={number} cannot be: use 1 or more")
    if is_ale(spec) and num_envs > 1:
        env = _make_ale_games(spec, PROTOCOLS[protocol], frame_skip or 4, image_size, num_envs)
    else:
        make_game = partial(_make_game, spec, PROTOCOLS[protocol], frame_skip, image_size)
        env = make_game() if num_envs == 1 else SerialEnv(num_envs, make_game)
    # torchrl calls an image with 3 channels pixels, any other one observation.
    pixels_key = "pixels" if "pixels" in env.observation_spec else "observation"
    env = adapt_env(env, pixels_key=pixels_key, image_size=image_size)
    if seed is not None:
        env.set_seed(seed)
    return env


def _make_game(spec: EnvSpec, rules: EvaluationProtocol, frame_skip: int | None, image_size: int) -> EnvBase:
    """One game, ALE's or another."""
    sticky = {"frameskip": 1, "repeat_action_probability": rules.repeat_action_probability, "full_action_space": False}
    game = make_pixel_game(spec, **(sticky if is_ale(spec) else {}))
    if hasattr(game.unwrapped, "ale"):
        game = AtariPreprocessing(game, rules.noop_max, frame_skip or 4, image_size, grayscale_obs=False)
        return TransformedEnv(GymWrapper(game), EndOfLifeTransform("life_loss", done_key="terminated"))
    return GymWrapper(SkipFrames(game, frame_skip) if frame_skip and frame_skip > 1 else game)


def _make_ale_games(
    spec: EnvSpec, rules: EvaluationProtocol, frame_skip: int, image_size: int, num_envs: int
) -> EnvBase:
    """Several ALE games, stepped together."""
    games = make_ale_vector(
        spec.kwargs["game"],
        num_envs,
        frame_skip=frame_skip,
        image_size=image_size,
        noop_max=rules.noop_max,
        repeat_action_probability=rules.repeat_action_probability,
    )
    life_loss = EndOfLifeTransform("life_loss", done_key="terminated", eol_attribute="lives")
    return TransformedEnv(GymWrapper(games), life_loss)
