"""Every objective and every backbone, on vectors and on an image beside a vector."""

from __future__ import annotations

import copy

import pytest

from tests.support.trained import OBJECTIVES, SMALL, Trained

OBSERVED = {
    "vector": ["env.name=CartPole-v1", "world_model.marks_starts=true"],
    "mixed": ["env.name=tests.support.sensors:Grid-v0", "env.pixels_key=image"],
}
BACKBONES = ("glam", "lmamba_only", "double_mamba", "storm", "double_transformer")
SWAPS = [f"objective={name}" for name in OBJECTIVES] + [f"dynamics={name}" for name in BACKBONES]


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("kind", OBSERVED)
def test_updates_stay_finite_and_train_everything(kind, swap):
    trained = Trained(*OBSERVED[kind], swap, sizes=SMALL)
    networks = {"world_model": trained.world_model, **trained.update_policy.networks}
    before = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    for _ in range(3):
        metrics = trained.update()
        assert all(value.isfinite().all() for value in metrics.values()), metrics
    for name, network in networks.items():
        after = network.state_dict()
        assert all(value.isfinite().all() for value in after.values() if value.is_floating_point()), name
        assert any((value != before[name][key]).any() for key, value in after.items()), name
