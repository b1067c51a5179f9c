"""Torch's random number generators, kept as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_generators(seed: int | None = None) -> Iterator[None]:
    """Restore torch's generators afterwards: of the CPU, and of each GPU that this process uses.

    Args:
        seed: of all of them inside. (``torch.manual_seed`` seeds all GPUs, those that are not restored too: one that is
            used later would draw the same numbers whatever the run's seed.)

    Examples:
        >>> import torch
        >>> from torchrl_glam.machine.generators import kept_generators
        >>> before = torch.get_rng_state()
        >>> with kept_generators(seed=0):
        ...     number = torch.rand(())
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(gpus):
        if seed is not None:
            for generator in (torch.default_generator, *(torch.cuda.default_generators[gpu] for gpu in gpus)):
                generator.manual_seed(seed)
        yield
