"""Torch's generators are as they were, those of GPUs too, for which stand-ins stand."""

from __future__ import annotations

import pytest
import torch

from torchrl_glam.machine.generators import kept_generators


@pytest.fixture
def gpus(monkeypatch):
    """The generators of two GPUs that a process uses."""
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "default_generators", generators, raising=False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda gpu: generators[gpu].get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, gpu: generators[gpu].set_state(state))
    return generators


@pytest.mark.parametrize("seed", [None, 0])
def test_what_is_drawn_inside_changes_nothing_outside(gpus, seed):
    before = [torch.get_rng_state(), *(gpu.get_state() for gpu in gpus)]
    draws = []
    for _ in range(2):
        with kept_generators(seed):
            draws.append([torch.rand(3), *(torch.rand(3, generator=gpu) for gpu in gpus)])
        after = [torch.get_rng_state(), *(gpu.get_state() for gpu in gpus)]
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(torch.equal(*pair) for pair in zip(*draws, strict=True))
    if seed is not None:
        assert torch.equal(draws[0][1], draws[0][2])
