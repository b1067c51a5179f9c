"""The parts of a step do what they are named for."""

from __future__ import annotations

import torch

from tests.support.benchmarking import CPU, TINY, load
from torchrl_glam.tools.benchmarks.components import Workload


def test_the_agent_update_trains_the_agent_and_leaves_the_world_model():
    workload = Workload(load(*TINY), CPU)
    components = {component.name: component for component in workload.components()}
    before = [parameter.detach().clone() for parameter in workload.actor.parameters()]
    untouched = [parameter.detach().clone() for parameter in workload.world_model.parameters()]
    components["agent update"].run()
    assert any(not torch.equal(a, b) for a, b in zip(before, workload.actor.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(untouched, workload.world_model.parameters(), strict=True))
