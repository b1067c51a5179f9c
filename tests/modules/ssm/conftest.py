"""A machine of any kind, as the choice of a backend sees it."""

from __future__ import annotations

import pytest
import torch

from torchrl_glam.modules.ssm import backends


@pytest.fixture
def machine(monkeypatch):
    """A function that says what is installed here."""

    def install(triton=False, mamba_ssm=False, cuda=False, interpreter=False, compiler=False):
        monkeypatch.setattr(backends, "_has_triton", triton)
        monkeypatch.setattr(backends, "_has_mamba_ssm", mamba_ssm)
        monkeypatch.setattr(backends, "_interprets_triton", interpreter)
        monkeypatch.setattr(backends, "find_obstacle", lambda: None if compiler else "no compiler here")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)

    return install
