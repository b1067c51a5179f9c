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

    def run_script(name: str) -> tuple[dict[str, Any], list[str]]:
        monkeypatch.syspath_prepend(str(EXAMPLES))
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


def test_the_memory_is_carried_and_cleared(run):
    variables, printed = run("mamba_policy")
    assert [line.partition(" ")[0] for line in printed] == ["logits", "mean"]
    assert max(variables["differences"]) < 1e-5
    assert variables["lengths"][-1] > 1.3 * variables["lengths"][0], "it learns"
    steps = variables["steps"]
    begins = torch.nn.functional.pad(steps["next", "done"][:, :-1, 0], (1, 0), value=True)
    empty = (steps["memory", "ssm"] == 0).flatten(2).all(-1)
    assert begins.sum() > len(steps), "some episodes begin on the way"
    assert torch.equal(empty, begins)


def test_torchrls_dreamer_learns_the_game_in_our_world_model(run):
    variables, printed = run("dreamer_in_imagination")
    assert len(printed) == 2
    assert variables["rewards"][-1] > max(0.8, variables["rewards"][0] + 0.2)
    assert variables["played"]["next", "reward"].mean() < 0.6
    assert variables["real"] > 0.9
    assert printed[1].endswith(f"{variables['real']:.2f} by the actor")


def test_losses_learn_from_a_foreign_buffer(run):
    variables, printed = run("losses_on_a_buffer")
    assert len(printed) == 2
    assert variables["errors"][-1] < 0.5 * variables["errors"][0]
    assert variables["fair"] < 0, "random play loses at Pong"
    assert abs(variables["value"] - variables["fair"]) < 0.5 * abs(variables["fair"])
