"""GLAM on a TorchRL environment of your own: build it, adapt it, pass it to the loop.

    python examples/own_env.py env.name=my-cart-pole preset=debug

Takes the options of glam_atari.py, of which env.name is only what the run is called.
"""

from __future__ import annotations

from glam_atari import CONFIGS, train
from torchrl.envs import GymEnv, TransformedEnv
from torchrl.envs.transforms import RewardScaling

from torchrl_glam.cli import command_line
from torchrl_glam.config import GLAMConfig
from torchrl_glam.envs import adapt_env
from torchrl_glam.factory import set_seeds


def make_env(seed: int) -> TransformedEnv:
    """A rendered CartPole with a smaller reward; any TorchRL environment with an image will do."""
    env = TransformedEnv(GymEnv("CartPole-v1", from_pixels=True), RewardScaling(loc=0.0, scale=0.1))
    env.set_seed(seed)
    return adapt_env(env)


@command_line(CONFIGS, "glam_atari")
def main(config: GLAMConfig) -> None:
    """Train on two environments of one kind: one to learn on, one for the evaluation."""
    set_seeds(config.seed)
    train(config, make_env(config.seed), make_env(config.seed + 1_000_000))


if __name__ == "__main__":
    main()
