"""Every row of the paper's ablations by one option."""

from __future__ import annotations

import pytest

from tests.support.configs import flatten, load
from tests.support.paths import CONFIGS
from tests.support.trained import Trained

ABLATIONS = {
    "none": set(),
    "without_g": {"world_model.dynamics._target_"},
    "without_g_and_l": {"world_model.dynamics._target_"},
    "double_mamba": {"world_model.dynamics._target_"},
    "double_transformer": {"world_model.dynamics._target_"},
    "without_variation_loss": {"model_loss.variation_coeff"},
    "g1_l1": set(),
    "g1_l2": {"world_model.dynamics.local_layers"},
    "g2_l1": {"world_model.dynamics.global_layers"},
    "g2_l2": {"world_model.dynamics.global_layers", "world_model.dynamics.local_layers"},
    "horizon_16": {"imagination.horizon_max"},
    "horizon_24": {"imagination.horizon_max"},
    "horizon_32": set(),
}
WITHOUT_VARIATION = ("without_g", "without_g_and_l", "double_mamba", "double_transformer", "without_variation_loss")


def test_every_ablation_is_tested_and_short():
    files = {file.stem: file for file in (CONFIGS / "ablation").glob("*.yaml")}
    assert set(files) == set(ABLATIONS)
    for file in files.values():
        assert len(file.read_text().splitlines()) <= 6, file


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_alone(name, preset):
    default, changed = flatten(load(f"preset={preset}")), flatten(load(f"preset={preset}", f"ablation={name}"))
    differ = {option for option in default if option in changed and default[option] != changed[option]}
    if "world_model.dynamics._target_" not in differ:  # another backbone has other options besides
        assert default.keys() == changed.keys()
    wanted = ABLATIONS[name] | ({"ablation"} if name != "none" else set())
    if preset == "released" and name == "horizon_32":
        wanted = wanted | {"imagination.horizon_max"}  # 48 there
    assert differ == wanted
    assert changed["ablation"] == name


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "none"])
def test_an_ablation_trains(name):
    trained = Trained(f"ablation={name}")
    metrics = trained.update()
    assert all(value.isfinite().all() for value in metrics.values())
    terms, _ = trained.update_world_model(trained.sequences.sample())
    assert ("loss_variation" in terms) == (name not in WITHOUT_VARIATION)
