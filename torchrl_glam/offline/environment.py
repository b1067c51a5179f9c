"""The environment that a dataset was recorded in, with the dataset's keys."""

from __future__ import annotations

from torchrl.envs import DoubleToFloat, EnvBase, GymEnv, RenameTransform, TransformedEnv

from torchrl_glam.envs import make_atari_env
from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.errors import UsageError, one_line


def make_decision_env(
    name: str, *, pixels: bool = False, protocol: str = "glam", frame_skip: int | None = None
) -> EnvBase:
    """A Gymnasium environment with ``observation`` and ``action`` as in an ``OfflineDataset``.

    Args:
        name: of a Gymnasium environment.
        pixels: observe the 64x64 frames of :func:`~torchrl_glam.envs.make_atari_env`, as agents of GLAM do, and act as
            they do; else float32 vectors, and actions one-hot or as the environment's own ``Box`` has them.
        protocol, frame_skip: as there, for pixels alone.

    Raises:
        UsageError: if there is no such environment, or it cannot be made.
    """
    spec = find_spec(name)
    if pixels:
        env = make_atari_env(name, protocol=protocol, frame_skip=frame_skip)
        return env.append_transform(RenameTransform(["pixels"], ["observation"]))
    try:
        vector_env = GymEnv(spec.id)
    except Exception as error:  # whatever the constructor of somebody's environment may raise
        raise UsageError(f"{name!r} could not be made: {one_line(error) or type(error).__name__}") from error
    # The transform is in each environment: torchrl 0.14.1 cannot step some of a SerialEnv, as a rollout until all are
    # done does, where one behind it is to turn their doubles into floats.
    return TransformedEnv(vector_env, DoubleToFloat())
