"""Small networks that several tests share."""

from __future__ import annotations

import os
import random
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import nn

from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel


def pytest_configure(config: pytest.Config) -> None:
    """With ``-n``, one thread for each of the processes: more threads than cores make OpenMP up to 100 times slower."""
    if config.getoption("numprocesses", None):
        os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers, which start later


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip each test that is marked ``gpu`` where there is none."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Seed every test, so that none fails for some random numbers only."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Switch off ``--jaxtyping-packages``: its errors would come before the package's own, and it does not compile."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def shake() -> Callable[..., Any]:
    """A function that adds noise to every parameter: initial zeros and ones would hide many a mistake."""

    def add_noise(module: nn.Module, scale: float = 0.3, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(scale * noise.to(parameter.dtype))
        return module

    return add_noise


@pytest.fixture
def make_world_model(shake: Callable[..., Any]) -> Callable[..., GLAMWorldModel]:
    """A function that builds a tiny world model in eval mode, every parameter of which matters."""

    def build(dynamics: nn.Module | None = None, **options: Any) -> GLAMWorldModel:
        torch.manual_seed(0)
        sizes = {
            "action_size": 3,
            "image_shape": (8, 8, 3),
            "channels": (4, 6),
            "num_categoricals": 3,
            "num_classes": 4,
        }
        dynamics = GLAMDynamics(8, d_state=3) if dynamics is None else dynamics
        return shake(GLAMWorldModel(dynamics=dynamics, **{**sizes, **options})).eval()

    return build


@pytest.fixture
def make_batch() -> Callable[..., TensorDict]:
    """A function that makes random real data ``[b t]`` for that world model."""

    def build(batch: int = 2, time: int = 8, image_shape: tuple[int, ...] = (8, 8, 3), seed: int = 0) -> TensorDict:
        generator = torch.Generator().manual_seed(seed)
        actions = torch.randint(3, (batch, time), generator=generator)
        ends = torch.rand(batch, time, 1, generator=generator) < 0.2
        return TensorDict(
            {
                "pixels": torch.randint(256, (batch, time, *image_shape), generator=generator, dtype=torch.uint8),
                "action": nn.functional.one_hot(actions, 3),
                "next": {
                    "reward": torch.randn(batch, time, 1, generator=generator),
                    "terminated": ends,
                    "done": ends,
                    "life_loss": ends,
                },
            },
            [batch, time],
        )

    return build


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run an example in this process, see it exit with status 2 before it says a word; return its line of stderr."""

    def run(example: Path, *options: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(example), *options])
        with pytest.raises(SystemExit) as exit_info:
            runpy.run_path(str(example), run_name="__main__")
        out, err = capsys.readouterr()
        assert exit_info.value.code == 2
        assert out == ""
        (line,) = err.strip().splitlines()
        return line

    return run
