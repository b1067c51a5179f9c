"""Every backbone by one option."""

from __future__ import annotations

import pytest

from tests.support.configs import load
from torchrl_glam import factory
from torchrl_glam.config.checks import check_config
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    GLAMDynamics,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    TransformerDynamics,
)


def parallel(kind: type[SequenceBackbone], backbone: ParallelDynamics, *depths: int) -> bool:
    branches = list(backbone.branches.values())
    return [type(branch) for branch in branches] == [kind, kind] and [len(b.layers) for b in branches] == list(depths)


def right_glam(b: GLAMDynamics) -> bool:
    return (type(b), len(b.gmamba.layers), len(b.lmamba.layers), b.lmamba.window) == (GLAMDynamics, 2, 3, 5)


BOTH = ["global_layers=2", "local_layers=3"]


@pytest.mark.parametrize(
    ("name", "given", "right"),
    [
        ("glam", [*BOTH, "window=5"], right_glam),
        (
            "lmamba_only",
            ["num_layers=3", "window=5"],
            lambda b: type(b) is LMamba and len(b.layers) == 3 and b.window == 5,
        ),
        ("double_mamba", BOTH, lambda b: parallel(MambaDynamics, b, 2, 3)),
        ("storm", ["num_layers=2"], lambda b: type(b) is TransformerDynamics and len(b.layers) == 2),
        ("double_transformer", BOTH, lambda b: parallel(TransformerDynamics, b, 2, 3)),
    ],
)
def test_a_backbone_by_one_option_with_its_depths(name, given, right):
    config = load("preset=debug", f"dynamics={name}", *(f"world_model.dynamics.{option}" for option in given))
    backbone = factory.make_dynamics(config)
    assert backbone.width == 32
    assert right(backbone)


def test_a_transformer_remembers_the_longest_sequence_of_the_run():
    config = load("preset=paper", "dynamics=storm")
    assert factory.make_dynamics(config).max_length == 64
    config = load("preset=released", "dynamics=storm")
    assert factory.make_dynamics(config).max_length == 68
    config = load("preset=paper", "dynamics=storm", "imagination.starts=batch")
    assert factory.make_dynamics(config).max_length == 64 + 32
    config = load("preset=paper", "dynamics=storm", "world_model.dynamics.max_length=70")
    assert factory.make_dynamics(config).max_length == 70
    check_config(config)
    config = load("preset=paper", "dynamics=storm", "world_model.dynamics.max_length=63")
    with pytest.raises(UsageError, match=r"max_length=63 is too short .*, 64"):
        check_config(config)
