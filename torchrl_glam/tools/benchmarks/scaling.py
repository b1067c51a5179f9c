"""The time of imagination against the horizon and against the context's length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import nn
from torch.utils.benchmark import Measurement

from torchrl_glam import factory
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.presentation import csv_text, make_figure, save_figure, share_legend
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant, variant_config
from torchrl_glam.tools.benchmarks.timing import measure, time_table

HORIZONS = (4, 8, 16, 24, 32)
CONTEXTS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Point:
    """Imagination of ``horizon`` steps after a context of ``context`` steps."""

    variant: Variant
    context: int
    horizon: int
    time: Measurement


def measure_scaling(config: BenchmarkConfig, device: torch.device, progress: Callable[[str], None]) -> list[Point]:
    """Measure imagination at every horizon after the usual context, and at the usual horizon after every context."""
    context, horizon = config.imagination.context_length, config.imagination.horizon
    places = {(context, length) for length in HORIZONS} | {(length, horizon) for length in CONTEXTS}
    points = []
    for variant in config.variants:
        changed = variant_config(config, variant)
        dynamics = changed.world_model.dynamics
        if hasattr(dynamics, "max_length"):  # a Transformer must remember the longest of all
            dynamics.max_length = max(dynamics.max_length or 0, *map(sum, places))
        factory.set_seeds(config.seed)
        real_env = factory.make_env(changed)
        action_spec, sizes = real_env.action_spec, factory.observed_sizes(real_env)
        world_model = factory.make_world_model(changed, action_spec, device, **sizes)
        actor = factory.make_actor(changed, world_model, action_spec)
        env = factory.make_imagined_env(changed, world_model, action_spec)
        for place in sorted(places):
            with torch.no_grad():
                start = _made_up_start(env, config.imagination.batch_size, place[0])
                time = measure(lambda: env.imagine(start, actor, place[1]), seconds=config.seconds)  # noqa: B023
            points.append(Point(variant, *place, time))
            progress(f"{variant.value}, context {place[0]}, horizon {place[1]}: {time.median:.3g} s")
    return points


def _made_up_start(env: GLAMImaginedEnv, batch: int, context: int) -> TensorDict:
    """Return what ``env.start`` returns, from random latents: encoding long contexts is not measured here."""
    transition = env.transition
    num_categoricals, num_classes = transition.world_model.latent_shape
    codes = torch.randint(num_classes, (batch, context, num_categoricals), device=env.device)
    state = nn.functional.one_hot(codes, num_classes).flatten(-2).float()
    action = env.action_spec.rand()[:1, None].expand(batch, context, -1)
    state, belief, memory = transition.read_context(state, action)
    return TensorDict({"state": state, "belief": belief, "memory": memory}, [batch], device=env.device)


def write_scaling(points: list[Point], path: Path) -> None:
    """Write the points as CSV."""
    rows = [
        [point.variant.value, point.context, point.horizon, f"{point.time.median:.6g}", len(point.time.times)]
        for point in points
    ]
    write_file(path, csv_text(["variant", "context", "horizon", "seconds", "repeats"], rows).encode())


def draw_scaling(points: list[Point], config: BenchmarkConfig, path: Path) -> None:
    """Draw seconds against the horizon and against the context, one line per variant, both axes from zero."""
    context, horizon = config.imagination.context_length, config.imagination.horizon
    figure = make_figure(8, 3.5)
    panels = figure.subplots(1, 2)
    for variant in config.variants:
        own = [point for point in points if point.variant is variant]
        by_horizon = sorted((point.horizon, point.time.median) for point in own if point.context == context)
        by_context = sorted((point.context, point.time.median) for point in own if point.horizon == horizon)
        for axes, line in zip(panels, (by_horizon, by_context), strict=True):
            axes.plot(*zip(*line, strict=True), marker="o", label=variant.value)
    ylabel = f"seconds for {config.imagination.batch_size} rollouts"
    panels[0].set(xlabel="horizon, steps", title=f"context {context}", ylabel=ylabel)
    panels[1].set(xlabel="context, steps", title=f"horizon {horizon}")
    for axes in panels:
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    share_legend(figure, list(panels))
    save_figure(figure, path)


def scaling_table(points: list[Point]) -> str:
    """Return a row per context and horizon: the time of each variant, and its ratio to ``sliding``."""
    times: dict[str, dict[str, Measurement]] = {}
    for point in points:
        place = f"context {point.context}, horizon {point.horizon}"
        times.setdefault(point.variant.value, {})[place] = point.time
    return time_table("imagination", times, Variant.sliding.value)
