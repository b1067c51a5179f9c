"""For how many tokens each channel of a trained model remembers.

A state decays by ``exp(delta A)`` at a token, so what entered it is down to 1/e after ``-1 / (delta A)`` tokens: the
memory length (MambaDM, arXiv 2406.02013, argues with the eigenvalues of A; the step size delta is the input's choice).
``d`` inner width, ``n`` size of a channel's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.ssm import MambaBlock
from torchrl_glam.offline.base import DecisionActor
from torchrl_glam.presentation import GREEN, VERMILION, make_panels, save_figure, share_legend

COLOURS = {"global": GREEN, "local": VERMILION}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@torch.no_grad()
def memory_lengths(network: DecisionActor, windows: TensorDictBase) -> dict[tuple[int, str], Tensor]:
    """Return the memory length of every element of the states, for the mean step size of its channel in windows.

    Args:
        network: with GLoMa blocks, in eval mode.
        windows: ``[b t]``, as of :func:`~torchrl_glam.offline.make_windows`.

    Returns:
        ``[d n]``, in tokens, by the layer's number from 0 and the branch, ``global`` or ``local``.

    Raises:
        UsageError: if the network has no such blocks.
    """
    blocks = {
        (int(place[2]), place[4]): module
        for name, module in network.named_modules()
        if isinstance(module, MambaBlock) and len(place := name.split(".")) == 6 and place[3] == "branches"
    }
    if not blocks:
        raise UsageError(f"{type(network).__name__} has no Mamba: give a run with model=mambadm or model=dmamba")
    with _step_sizes(blocks) as steps:
        network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))
    means = {place: torch.cat(sizes).mean(0) for place, sizes in steps.items()}
    return {place: 1 / (means[place][:, None] * block.A_log.exp()) for place, block in blocks.items()}


@contextmanager
def _step_sizes(blocks: dict[tuple[int, str], MambaBlock]) -> Iterator[dict[tuple[int, str], list[Tensor]]]:
    """Collect each block's step sizes ``[tokens d]``: what its ``dt_proj`` returns, after the softplus."""
    steps: dict[tuple[int, str], list[Tensor]] = {place: [] for place in blocks}

    def hook(place: tuple[int, str]) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            steps[place].append(F.softplus(output).flatten(0, -2))

        return keep

    handles = [block.dt_proj.register_forward_hook(hook(place)) for place, block in blocks.items()]
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()


def lengths_table(lengths: dict[tuple[int, str], Tensor]) -> pd.DataFrame:
    """Return a row per layer (from 1) and branch: quantiles of the memory lengths, in tokens."""
    rows = []
    for (layer, branch), values in sorted(lengths.items()):
        quantiles = torch.quantile(values.flatten().double(), torch.tensor(QUANTILES, dtype=torch.double))
        named = {f"quantile_{share:g}": value for share, value in zip(QUANTILES, quantiles.tolist(), strict=True)}
        rows.append({"layer": layer + 1, "branch": branch, "elements": values.numel(), **named})
    return pd.DataFrame(rows)


def plot_lengths(path: Path, lengths: dict[tuple[int, str], Tensor], marks: dict[str, float], note: str = "") -> None:
    """Write a PNG: a panel for each layer with the distribution of both branches' memory lengths, on a log axis.

    Args:
        path: of the file.
        lengths: of :func:`memory_lengths`.
        marks: lengths in tokens that are drawn as lines, by their labels, such as the piece and the window.
        note: a line above.

    Raises:
        UsageError: if the file cannot be written.
    """
    layers = sorted({layer for layer, _ in lengths})
    figure, panels = make_panels(len(layers))
    everything = torch.cat([values.flatten() for values in lengths.values()]).float().log10()
    edges = torch.linspace(everything.min().floor(), everything.max().ceil(), 41)
    for axes, layer in zip(panels, layers, strict=True):
        for branch, colour in COLOURS.items():
            if (values := lengths.get((layer, branch))) is None:
                continue
            counts = torch.histogram(values.flatten().float().log10().cpu(), edges).hist / values.numel()
            axes.stairs(counts, 10**edges, fill=True, alpha=0.45, color=colour, label=f"{branch} branch")
            axes.axvline(values.median().item(), color=colour, linewidth=1.5, label=f"its median ({branch})")
        for (label, place), style in zip(marks.items(), (":", "--", "-."), strict=False):
            axes.axvline(place, color="black", linestyle=style, linewidth=1, label=label)
        axes.set(xscale="log", title=f"layer {layer + 1}", xlabel="memory length, tokens")
    panels[0].set_ylabel("share of the states")
    share_legend(figure, panels)
    if note:
        figure.suptitle(note, fontsize="small")
    save_figure(figure, path)
