"""What a term of the world-model loss is (GLAM Eq. 12)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Term(nn.Module):
    """One or more losses with their weights, and the metrics that come with them.

    A subclass computes ``forward(world_model, outputs, targets, first)``: unweighted losses and detached metrics,
    scalars by name. ``outputs`` is what the world model wrote (see its table of keys), ``targets`` has ``reward`` and
    ``termination`` ``[b t 1]``, and beliefs count from ``t = first`` on. Layers of its own are trained with the world
    model.

    Attributes:
        weights: weight of each loss by name; a loss of weight 0 is left out.
        metrics: names of the metrics.

    Args:
        weights: weight of each loss.
    """

    metrics: tuple[str, ...] = ()

    def __init__(self, **weights: float) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight}

    def __call__(self, *inputs: Any) -> dict[str, Tensor]:
        """Return the weighted losses, named ``loss_...``, and the metrics."""
        values = super().__call__(*inputs)
        losses = {f"loss_{name}": weight * values[name] for name, weight in self.weights.items()}
        return {**{name: values[name].detach() for name in self.metrics}, **losses}
