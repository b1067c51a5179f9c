"""The scripts that take single parts of ours into a TorchRL pipeline: what they say holds, and they know no more."""

from __future__ import annotations

import ast
import runpy
from typing import Any

import pytest
import torch

from tests.support.paths import EXAMPLES

PIECES = ["ppo_in_imagination", "mamba_policy", "dreamer_in_imagination", "losses_on_a_buffer", "planning"]
WIRING = {
    "torchrl_glam.config",
    "torchrl_glam.factory",
    "torchrl_glam.training",
    "torchrl_glam.runs",
    "torchrl_glam.command.cli",
}


@pytest.fixture
def run(monkeypatch, capfd):
    """A function that runs a script here; returns its variables and the lines it printed."""

    def run_script(name: str, *options: str) -> tuple[dict[str, Any], list[str]]:
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr("sys.argv", [name, *options])
        variables = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        printed = [line for line in capfd.readouterr().out.splitlines() if "[torchrl]" not in line]
        return variables, printed

    return run_script


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_is_short_and_needs_no_other_part_of_ours(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 80
    tree = ast.parse(text)
    assert f"python examples/{name}.py" in ast.get_docstring(tree)
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    ours = {".".join(module.split(".")[:2]) for module in imported if module.startswith("torchrl_glam")}
    assert ours
    assert not ours & WIRING


@pytest.mark.long
def test_ppo_learns_the_game_in_imagination(run):
    variables, printed = run("ppo_in_imagination")
    first, *_, last = printed
    assert len(printed) == 3
    assert first.startswith("mean reward of a step: 0.")
    assert float(first.split()[5]) < 0.75, "random play earns about a half"
    assert variables["real"] > 0.9
    assert abs(variables["real"] - variables["dreamt"]) < 0.1
    assert (
        last
        == f"mean reward of a step: {variables['real']:.2f} in the game, then {variables['dreamt']:.2f} in imagination"
    )


@pytest.mark.long
def test_the_memory_is_carried_and_cleared(run, tmp_path):
    variables, printed = run("mamba_policy", "batches=6", "rate=1e-2", f"out={tmp_path / 'returns.csv'}")
    assert [line.split()[0] for line in printed] == ["log-probabilities", "median"]
    assert max(variables["differences"]) < 1e-5
    returns = [value for _, value in variables["episodes"]]
    assert sum(returns[-50:]) > 1.15 * sum(returns[:50]), "it learns"
    written = [tuple(map(float, line.split(","))) for line in (tmp_path / "returns.csv").read_text().splitlines()]
    assert written == variables["episodes"]
    steps = variables["steps"]
    empty = (steps["recurrent_state_ssm"] == 0).flatten(2).all(-1)
    assert steps["is_init"][:, 1:].any(), "some episodes begin on the way"
    assert not steps["is_init"][:, 0].all(), "and some go on from the batch before"
    assert torch.equal(empty, steps["is_init"][..., 0])


def test_torchrls_lstm_is_called_alike(run):
    variables, _ = run("mamba_policy", "memory=lstm", "batches=1")
    assert max(variables["differences"]) < 1e-5


@pytest.mark.long
def test_torchrls_dreamer_learns_the_game_in_our_world_model(run):
    variables, printed = run("dreamer_in_imagination")
    assert len(printed) == 2
    assert variables["rewards"][-1] > max(0.8, variables["rewards"][0] + 0.2)
    assert variables["played"]["next", "reward"].mean() < 0.6
    assert variables["real"] > 0.9
    assert printed[1].endswith(f"{variables['real']:.2f} by the actor")


@pytest.mark.long
def test_losses_learn_from_a_foreign_buffer(run):
    variables, printed = run("losses_on_a_buffer")
    assert len(printed) == 2
    assert variables["errors"][-1] < 0.5 * variables["errors"][0]
    assert variables["fair"] < 0, "random play loses at Pong"
    assert abs(variables["value"] - variables["fair"]) < 0.5 * abs(variables["fair"])
