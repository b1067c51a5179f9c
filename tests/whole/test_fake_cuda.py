"""Updates, captured imagination and acting on a CUDA device that is not there: devices, copies and waits, no numbers.

All of it by name: ``pytest -m slow tests/whole/test_fake_cuda.py`` (2 minutes of one core).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.paths import ROOT
from tests.support.trained import OBJECTIVES

SHIM = ROOT / "tests" / "support" / "fake_cuda.cpp"
INDICES = "copies: cpu to cuda, [{}] torch.int64 | torchrl_glam/data/replay.py:sample"  # drawn on the CPU, not awaited
IN_TORCHRL = {  # what TorchRL 0.14.1 waits for in each update
    "ppo": ("waits: item of torch.bool | torchrl/objectives/ppo.py:_get_entropy",),
    "discrete_sac": ("waits: item of torch.int64 | torchrl/data/replay_buffers/storages/base.py:_set_last_cursor",),
}

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="needs a CPU build of torch"),
]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, dict[str, Any]]]:
    """A function that runs cases of one game in a process, and returns what each noted."""
    library = tmp_path_factory.mktemp("fake_cuda") / "shim.so"
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch_home = Path(spec.origin).parent
    headers = [f"-I{torch_home / 'include' / part}" for part in ("", "torch/csrc/api/include")]
    libraries = [f"-L{torch_home / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch_home / 'lib'}"]
    flags = ["-w", "-std=c++17", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, str(SHIM), "-o", str(library), *headers, *libraries], check=True)

    def run(game: str, *cases: str) -> dict[str, dict[str, Any]]:
        environment = {**os.environ, "FAKE_CUDA": str(library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.support.fake_cases", game, *cases]
        process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr[-4000:]
        found = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
        assert [said.pop("case") for said in found] == list(cases)
        return dict(zip(cases, found, strict=True))

    return run


def check(found: dict[str, dict[str, Any]]) -> None:
    """Nothing waits, copies or is elsewhere, but for what is known of TorchRL."""
    for case, said in found.items():
        if case == "offline":
            assert said == {"update": {}}
            continue
        known = [INDICES.format(size) for size in (6, 8)]  # of sequences, and of contexts
        for objective, waits in IN_TORCHRL.items():
            known += waits if f"objective={objective}" in case.split() else ()
        for wait in known[2:]:
            assert any(line.startswith(wait) for line in said["update"]), f"{case}: no more {wait}; mend docs/speed.md"
        said["update"] = [line for line in said["update"] if not line.startswith(tuple(known))]
        assert said == {"update": [], "acting": {}, "elsewhere": [], "not restored": [], "skips": True}, case


@pytest.mark.long
def test_objectives_of_each_kind(fake):
    """One whose imagination is captured, one that imagines with gradients, one that keeps transitions; MambaDM."""
    glam = "objective=glam training.precision=bfloat16 imagination.starts=batch"
    check(fake("CatchBall", glam, "objective=dreamer_v3", "objective=discrete_sac"))
    check(fake("CatchBall", "offline"))  # in a process of its own: after the others the fakes can crash it


@pytest.mark.slow
@pytest.mark.parametrize("game", ["CatchBall", "SteerBall"])
def test_every_objective_in_every_precision(fake, game):
    cases = [
        f"objective={objective} training.precision={precision} imagination.starts={starts}"
        for objective in OBJECTIVES
        for precision, starts in (("float32", "replay"), ("bfloat16", "batch"))
        if (objective, game) != ("discrete_sac", "SteerBall")
    ]
    check(fake(game, *cases))


@pytest.mark.slow
def test_every_backbone_and_both_memories(fake):
    sliding = "imagination.memory=sliding imagination.window=4"
    backbones = ("lmamba_only", "double_mamba", "storm", "double_transformer")
    plain = [f"dynamics={name} model_loss.variation_coeff=0" for name in backbones]
    check(fake("CatchBall", sliding, f"{plain[2]} {sliding}", *plain))
