"""The README's Python runs as it stands, given the objects that its sentences speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import OneHot

from torchrl_glam.modules import GLAMWorldModel, make_actor

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


class RealEnv:
    """All that the snippets ask of the user's environment."""

    action_spec = OneHot(6)


@pytest.mark.parametrize("block", BLOCKS, ids=["loss", "imagination"])
def test_a_snippet_runs(block):
    world_model = GLAMWorldModel(action_size=6).eval()
    pixels = torch.randint(256, (64, 8, 64, 64, 3), dtype=torch.uint8)
    action = torch.nn.functional.one_hot(torch.randint(6, (64, 8)), 6)
    flags = torch.zeros(2, 8, 1, dtype=torch.bool)
    outcome = {"reward": torch.zeros(2, 8, 1), "terminated": flags}
    batch = TensorDict({"pixels": pixels[:2], "action": action[:2], "next": outcome}, [2, 8])
    names = {
        "world_model": world_model,
        "env": RealEnv(),
        "policy": make_actor(world_model.state_size, 256, OneHot(6)),
        "batch": batch,
        "pixels": pixels,
        "action": action,
    }
    exec(block, names)
    assert "terms" in names or names["rollout"].shape == (64, 16)


def test_the_readme_has_the_two_commands():
    assert "pip install -e . && python examples/glam_atari.py env.name=ALE/Pong-v5\n" in README
    assert 'pip install -e ".[dev]" && pytest\n' in README
