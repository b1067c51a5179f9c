"""Estimate of a run's time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import psutil
import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig, Starts
from torchrl_glam.errors import UsageError, describe_error
from torchrl_glam.machine.compilation import KEPT_GRAPHS
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.machine.resources import peak_memory, reset_peak_memory
from torchrl_glam.training import DreamerObjective, PolicyUpdate

MOST = 20  # calls of one update
LONG = 5.0  # seconds of a first call above which it is not made again
COMPILATION = 60.0  # seconds that training.compile=true takes at first


@dataclass(frozen=True)
class Estimate:
    """Time and memory of a run.

    Args:
        seconds: of training, the evaluation left out.
        memory: bytes at the peak of an update, networks and optimizers included, replay left out: of the GPU's memory
            on CUDA, else of main memory. None where it was not measured.
        imagined_replay: bytes of the imagined transitions that an off-policy objective keeps, once there are as many
            as it may keep.
        state: bytes of networks and optimizers.
        graphs: bytes of the CUDA graphs that imagination keeps, with ``training.compile=true``.
    """

    seconds: float
    memory: int | None
    imagined_replay: int
    state: int
    graphs: int = 0


def estimate_seconds(config: GLAMConfig, env: EnvBase, device: torch.device) -> float:
    """Time one of each update; see :func:`estimate_run`."""
    return estimate_run(config, env, device).seconds


def estimate_run(
    config: GLAMConfig,
    env: EnvBase,
    device: torch.device,
    *,
    patience: float = 1.0,
    measure_memory: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Estimate:
    """Time some of each update, not compiled, on throw-away networks and made-up frames, and extrapolate to the run.

    Leaves the random state and ``env``'s emulator as they were; ``env`` only supplies specs. Imagination is scaled to
    the run's mean horizon. Emulator and acting are not timed: 5 ms per step is what Pong took on a CPU.

    Args:
        config: the run's options.
        env: the real environment.
        device: the networks'.
        patience: seconds after which an update is not timed again; the fastest call counts, for other work on the
            machine only ever slows it down.
        measure_memory: also take the update that takes most memory, the policy's at the longest horizon.
        say: is told what is done next.

    Raises:
        UsageError: if somebody's objective cannot take a step.
    """
    compiles, captures = config.training.compile, config.training.compile and device.type == "cuda"
    config = replace(config, training=replace(config.training, compile=False))  # which takes longer than it would tell
    some = range(0, config.total_frames, max(1, config.total_frames // 1000))
    horizons = [config.imagination.horizon_at(frame) for frame in some]
    if measure_memory:
        reset_peak_memory(device)
    before = _held_memory(device)
    with kept_generators():
        action_spec = env.action_spec_unbatched
        world_model = factory.make_world_model(config, action_spec, device, **factory.observed_sizes(env))
        imagined = factory.make_imagined_env(config, world_model, action_spec)
        actor = factory.make_actor(config, world_model, action_spec)
        update_policy = factory.make_policy_update(config, imagined, actor)
        update_world_model = factory.make_world_model_update(config, world_model)
        replay, imagination = config.replay, config.imagination
        sequences = _blank(env, update_world_model.loss.in_keys, (replay.batch_size, replay.batch_length), device)
        if imagination.starts is Starts.replay:
            starts = _blank(
                env,
                [*world_model.in_keys, ("next", "done")],
                (imagination.batch_size, imagination.context_length),
                device,
            )
        else:
            _, starts = update_world_model(sequences)
        say("times an update of the world model")
        world_model_seconds = fastest_call(lambda: update_world_model(sequences), device, patience)
        mean = round(sum(horizons) / len(horizons))
        say(f"times an update of the policy, {mean} imagined steps")
        _try_objective(update_policy, starts)
        policy_seconds = fastest_call(lambda: update_policy(starts, mean), device, patience)
        if measure_memory and max(horizons) > mean:
            say(f"makes one of {max(horizons)} imagined steps, for its memory")
            update_policy(starts, max(horizons))
        peak = peak_memory(device) if measure_memory else None
        graphs = _graph_memory(update_policy, starts, horizons, device) if captures and measure_memory else 0
    trained = config.total_frames - config.training.warmup_frames
    updates = world_model_seconds / config.training.world_model_every + policy_seconds / config.training.policy_every
    return Estimate(
        seconds=config.total_frames * 0.005 + trained * updates + compiles * COMPILATION,
        memory=None if peak is None else max(0, peak - before),
        imagined_replay=_imagined_replay(update_policy),
        state=_state_bytes(world_model, *update_policy.networks.values()),
        graphs=graphs,
    )


def fastest_call(update: Callable[[], object], device: torch.device, patience: float) -> float:
    """Return the seconds of the fastest of at least 3 calls, and of more until ``patience`` is over.

    The first one also allocates memory and chooses kernels; one that takes longer than ``LONG`` is the only one.
    """
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < MOST and sum(seconds) < patience):
        began = time.perf_counter()
        update()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        if seconds[0] > max(LONG, patience):
            break
    return min(seconds)


def _graph_memory(update: PolicyUpdate, data: TensorDictBase, horizons: Sequence[int], device: torch.device) -> int:
    """Return the bytes of the graphs that are kept: each has a pool of its own for all that imagination allocates."""
    objective = update.objective
    if isinstance(objective, DreamerObjective):  # its rollouts have gradients
        return 0
    with torch.no_grad():
        start = objective.start(data)
        reset_peak_memory(device)
        before = _held_memory(device)
        objective.env.imagine(start, objective.actor, max(horizons))
    return min(KEPT_GRAPHS, len(set(horizons))) * max(0, (peak_memory(device) or 0) - before)


def _try_objective(update: PolicyUpdate, starts: TensorDictBase) -> None:
    """Imagine 2 steps and learn from them: an error of somebody's objective becomes one line, before the run begins."""
    objective = update.objective
    if type(objective).__module__.startswith("torchrl_glam."):
        return
    try:
        update(starts, 2)
    except (UsageError, FloatingPointError):
        raise
    except Exception as error:
        raise UsageError(f"objective={objective.name} cannot take a step: {describe_error(error)}") from error


def _held_memory(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _imagined_replay(update: PolicyUpdate) -> int:
    """Return the bytes of an objective's imagined transitions once its storage, still empty, is full."""
    buffer = update.objective.buffer
    if buffer is None:
        return 0
    transitions = buffer[:]
    return int(transitions.bytes() // len(transitions) * buffer.storage.max_size)


def _state_bytes(*modules: nn.Module) -> int:
    """Weights, Adam's two means for each, and as much again for whatever has a slow copy."""

    def size(tensors: Iterable[Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    parameters = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
    buffers = dict.fromkeys(buffer for module in modules for buffer in module.buffers())
    slow = dict.fromkeys(parameter for module in modules[1:] for parameter in module.parameters())
    return 3 * size(parameters) + size(buffers) + size(slow)


def _blank(env: EnvBase, keys: Sequence[NestedKey], shape: tuple[int, int], device: torch.device) -> TensorDictBase:
    """Make a batch ``[b t]`` of zeros with those entries of ``env`` that a part reads."""
    step = env.fake_tensordict()[(0,) * env.batch_dims].select(*keys)
    return step.expand(*shape).clone().to(device)
