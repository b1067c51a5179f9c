"""The options of the initial step size; its default is tested with the block's other initial values."""

from __future__ import annotations

import torch

from torchrl_glam.modules.ssm import MambaBlock


def test_options_of_the_initial_step_size():
    block = MambaBlock(32, dt_min=1e-6, dt_max=1e-5, dt_init_floor=1e-3, dt_init="constant", dt_scale=3.0)
    dt = torch.nn.functional.softplus(block.dt_proj.bias)
    torch.testing.assert_close(dt, torch.full_like(dt, 1e-3), rtol=1e-3, atol=0)
    torch.testing.assert_close(block.dt_proj.weight, torch.full((64, 2), 3.0 * 2**-0.5))


def test_parameters_are_marked_as_in_mamba_ssm():
    """Its models zero the biases of linear layers, but for those with ``_no_reinit``."""
    block = MambaBlock(8)
    marked = {name for name, entry in block.named_parameters() if getattr(entry, "_no_reinit", False)}
    exempt = {name for name, entry in block.named_parameters() if getattr(entry, "_no_weight_decay", False)}
    assert (marked, exempt) == ({"dt_proj.bias"}, {"A_log", "D"})
