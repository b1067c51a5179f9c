"""The cost of an update of an offline model, by the number of steps in its windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.objectives import DTLoss

from torchrl_glam.errors import UsageError
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.offline.actions import make_decision_actor
from torchrl_glam.offline.actor import DecisionTransformerActor, DMambaActor, MambaDMActor
from torchrl_glam.offline.benchmark import format_seconds
from torchrl_glam.offline.training import DecisionUpdate
from torchrl_glam.offline.windows import MASK
from torchrl_glam.presentation import markdown

MODELS: dict[str, Any] = {"Transformer": DecisionTransformerActor, "DMamba": DMambaActor, "MambaDM": MambaDMActor}
BASELINE = "Transformer"


def measure_updates(
    contexts: Sequence[int] = (20, 60),
    *,
    batch: int = 64,
    observation_size: int = 11,
    action_size: int = 3,
    width: int = 128,
    num_layers: int = 3,
    num_heads: int = 1,
    rounds: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Time one update (loss, gradients, AdamW) of the Transformer, DMamba and MambaDM, in turns.

    Args:
        contexts: numbers of steps of a window.
        batch: windows of an update.
        observation_size, action_size: Hopper's by default.
        width, num_layers: of all models.
        num_heads: of the Transformer.
        rounds: updates of each model that count; one before them does not.
        progress: takes a line before each context.

    Returns:
        A row per ``context`` and ``model``: the median ``seconds`` of the process's CPU time, that is of one core with
        one thread, whatever else runs there; ``lowest`` and ``highest``, and the ``ratio`` to the Transformer.

    Raises:
        UsageError: where a number is below 1.
    """
    if min([*contexts, batch, rounds]) < 1:
        raise UsageError(f"contexts {list(contexts)}, batch {batch}, rounds {rounds}: give whole numbers of at least 1")
    rows = []
    for context in contexts:
        progress(f"updates by windows of {context} steps")
        sizes: dict[str, Any] = {"width": width, "num_layers": num_layers, "context": context}
        with kept_generators():
            windows = _random_windows(batch, context, observation_size, action_size)
            updates = {}
            for name, model in MODELS.items():
                heads = {"num_heads": num_heads} if name == BASELINE else {}
                updates[name] = _make_update(model((observation_size,), action_size, **sizes, **heads), action_size)
            seconds: dict[str, list[float]] = {name: [] for name in updates}
            for _ in range(rounds + 1):
                for name, update in updates.items():
                    started = time.process_time()
                    update(windows)
                    seconds[name].append(time.process_time() - started)
        for name, times in seconds.items():
            counted = pd.Series(times[1:])
            row = {"context": context, "model": name, "batch": batch, "seconds": counted.median()}
            rows.append({**row, "lowest": counted.min(), "highest": counted.max()})
    points = pd.DataFrame(rows)
    baseline = points[points["model"] == BASELINE].set_index("context")["seconds"]
    return points.assign(ratio=points["seconds"] / points["context"].map(baseline))


def updates_table(points: pd.DataFrame) -> str:
    """Return a row per context: the time of an update of each model, and its ratio to the Transformer's."""
    cells = points.assign(
        cell=[f"{format_seconds(s)} ({r:.3g}x)" for s, r in zip(points["seconds"], points["ratio"], strict=True)]
    )
    table = cells.pivot(index="context", columns="model", values="cell")[list(dict.fromkeys(points["model"]))]
    return markdown(["window, steps", *table.columns], [[str(context), *row] for context, row in table.iterrows()])


def _random_windows(batch: int, context: int, observation_size: int, action_size: int) -> TensorDict:
    sizes = {"observation": observation_size, "return_to_go": 1}
    windows = TensorDict({name: torch.randn(batch, context, size) for name, size in sizes.items()}, [batch, context])
    windows["action"] = torch.rand(batch, context, action_size) * 2 - 1
    windows["time_step"] = torch.arange(context).expand(batch, context)[..., None].contiguous()
    return windows.set(MASK, torch.ones(batch, context, 1, dtype=torch.bool))


def _make_update(network: Any, action_size: int) -> DecisionUpdate:
    actor = make_decision_actor(network, Bounded(-1, 1, (action_size,)))
    options = {"lr": 1e-4, "weight_decay": 1e-4, "warmup_updates": 10, "total_updates": 1000, "max_norm": 0.25}
    return DecisionUpdate(DTLoss(actor), network, **options)  # type: ignore[arg-type]
