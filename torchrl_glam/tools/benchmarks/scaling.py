"""Imagination after the context: its time against the horizon and against the context's length."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import nn

from torchrl_glam import factory
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.presentation import make_figure, save_figure
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant, variant_config
from torchrl_glam.tools.benchmarks.timing import Timing, measure, warm_up

HORIZONS = (4, 8, 16, 24, 32)
CONTEXTS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Point:
    """Imagination of ``horizon`` steps after a context of ``context`` steps."""

    variant: Variant
    context: int
    horizon: int
    timing: Timing


def measure_scaling(config: BenchmarkConfig, device: torch.device, progress: Callable[[str], None]) -> list[Point]:
    """Time imagination at every horizon after the usual context, and at the usual horizon after every context."""
    context, horizon = config.imagination.context_length, config.imagination.horizon
    places = {(context, length) for length in HORIZONS} | {(length, horizon) for length in CONTEXTS}
    points = []
    for variant in config.variants:
        changed = variant_config(config, variant)
        dynamics = changed.world_model.dynamics  # a Transformer must remember the longest of all
        if hasattr(dynamics, "max_length"):
            dynamics.max_length = max(dynamics.max_length or 0, *map(sum, places))
        imagine = _make_imagination(changed, device)
        for place in sorted(places):
            run = imagine(*place)
            warm_up(run, device)
            points.append(Point(variant, *place, measure(run, device, repeats=config.repeats)))
            progress(f"{variant.value}, context {place[0]}, horizon {place[1]}: {points[-1].timing.seconds:.3g} s")
    return points


def _make_imagination(config: BenchmarkConfig, device: torch.device) -> Callable[[int, int], Callable[[], object]]:
    """Return ``imagine(context, horizon) -> run``, where ``run()`` imagines from the end of such a context."""
    factory.set_seeds(config.seed)
    action_spec = factory.make_env(config).action_spec
    world_model = factory.make_world_model(config, action_spec, device)
    actor = factory.make_actor(config, world_model, action_spec)
    env = factory.make_imagined_env(config, world_model, action_spec)

    @torch.no_grad()
    def imagine(context: int, horizon: int) -> Callable[[], object]:
        start = _made_up_start(env, config.imagination.batch_size, context)
        return torch.no_grad()(lambda: env.imagine(start, actor, horizon))

    return imagine


def _made_up_start(env: GLAMImaginedEnv, batch: int, context: int) -> TensorDict:
    """What ``env.start`` returns, from made-up latents: encoding long contexts is not what is measured here."""
    transition = env.transition
    num_categoricals, num_classes = transition.world_model.latent_shape
    codes = torch.randint(num_classes, (batch, context, num_categoricals), device=env.device)
    state = nn.functional.one_hot(codes, num_classes).flatten(-2).float()
    action = env.action_spec.rand()[:1, None].expand(batch, context, -1)
    beliefs, memory = transition.dynamics(transition.world_model.embedding(state, action))
    belief = beliefs[:, -1]
    state = transition.world_model.predict_state(belief)
    return TensorDict({"state": state, "belief": belief, "memory": memory}, [batch], device=env.device)


def write_scaling(points: list[Point], path: Path) -> None:
    """Write the points as CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["variant", "context", "horizon", "seconds", "repeats"])
        for point in points:
            seconds, repeats = point.timing.seconds, point.timing.repeats
            rows.writerow([point.variant.value, point.context, point.horizon, f"{seconds:.6g}", repeats])


def draw_scaling(points: list[Point], config: BenchmarkConfig, path: Path) -> None:
    """Draw seconds against the horizon and against the context, one line per variant, both axes from zero."""
    context, horizon = config.imagination.context_length, config.imagination.horizon
    figure = make_figure(8, 3.5)
    by_horizon, by_context = figure.subplots(1, 2)
    for variant in config.variants:
        own = [point for point in points if point.variant is variant]
        line = sorted((point.horizon, point.timing.seconds) for point in own if point.context == context)
        by_horizon.plot(*zip(*line, strict=True), marker="o", label=variant.value)
        line = sorted((point.context, point.timing.seconds) for point in own if point.horizon == horizon)
        by_context.plot(*zip(*line, strict=True), marker="o", label=variant.value)
    batch = config.imagination.batch_size
    by_horizon.set(xlabel="horizon, steps", title=f"context {context}", ylabel=f"seconds for {batch} rollouts")
    by_context.set(xlabel="context, steps", title=f"horizon {horizon}")
    for axes in (by_horizon, by_context):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)
