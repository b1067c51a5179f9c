"""GLAM on a TorchRL environment of your own: build it, adapt it, pass it to the loop.

    python examples/own_env.py env.name=my-cart-pole preset=debug

Takes the options of glam_atari.py, of which env.name is only what the run is called. A copy of this file works from
any folder.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from torchrl.envs import GymEnv, TransformedEnv
from torchrl_glam.examples.glam_atari import CONFIGS, train

from torchrl_glam.command.cli import command_line
from torchrl_glam.config import EnvConfig, GLAMConfig
from torchrl_glam.envs import adapt_env
from torchrl_glam.errors import UsageError
from torchrl_glam.factory import set_seeds


def make_env(seed: int) -> TransformedEnv:
    """Make a rendered CartPole; any TorchRL environment will do."""
    env = GymEnv("CartPole-v1", from_pixels=True)
    env.set_seed(seed)
    return adapt_env(env)


@command_line(CONFIGS, "glam_atari")
def main(config: GLAMConfig) -> None:
    """Train on two environments of one kind: one to learn on, one for the evaluation."""
    if config.env.name == EnvConfig.name:
        raise UsageError(
            f"env.name={config.env.name} is not what is played here: give it a name, env.name=my-cart-pole"
        )
    set_seeds(config.seed)
    train(config, make_env(config.seed), make_env(config.seed + 1_000_000))


if __name__ == "__main__":
    main()
