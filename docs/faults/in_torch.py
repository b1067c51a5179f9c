"""Faults of PyTorch that this package works around: ``python docs/faults/in_torch.py [NAME ...]``.

Each function returns True while the fault is there. The compiled ones need a C++ compiler. Versions:
docs/torchrl_facts.md.
"""

from __future__ import annotations

import inspect

import torch
from shown import main
from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def compiled_sums_are_wrong() -> bool:
    """The CPU's compiler returns wrong values for an unrolled scan that reads out by ``(h * C).sum(-1)``."""

    def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        h, ys = torch.zeros(u.shape[0], *A.shape), []
        for t in range(u.shape[1]):
            h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None]
            ys.append((h * C[:, t, None]).sum(-1))
        return torch.stack(ys, 1)

    torch.manual_seed(0)
    u, delta = torch.randn(3, 4, 40), torch.rand(3, 4, 40)
    inputs = (u, delta, -torch.rand(40, 16), *torch.randn(2, 3, 4, 16))
    return bool((torch.compile(scan)(*inputs) - scan(*inputs)).abs().max() > 1e-3)


def optimizers_take_other_shapes() -> bool:
    """``Optimizer.load_state_dict`` takes moments of other shapes, and only the next step fails."""
    small, large = nn.Linear(2, 2), nn.Linear(3, 3)
    optimizers = [torch.optim.Adam(layer.parameters()) for layer in (small, large)]
    small(torch.zeros(1, 2)).sum().backward()
    optimizers[0].step()
    try:
        optimizers[1].load_state_dict(optimizers[0].state_dict())
    except Exception:
        return False
    return True


def flops_of_functional_modules() -> bool:
    """``FlopCounterMode`` fails in a module that holds a ``TensorDictParams``."""
    layer = nn.Linear(2, 2)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = TensorDictParams(TensorDict.from_module(layer))

        def forward(self, x: Tensor) -> Tensor:
            with self.held.to_module(layer):
                return layer(x)

    try:
        with FlopCounterMode(display=False):
            Holder()(torch.zeros(1, 2))
    except Exception:
        return True
    return False


def compilers_are_looked_for_late() -> bool:
    """``torch.compile`` without a C++ compiler fails at the first call, not where it is asked for."""
    import os
    import subprocess
    import sys

    code = "import torch; f = torch.compile(lambda x: x.sin() + 1); print('made', flush=True); f(torch.zeros(9))"
    variables = {**os.environ, "CXX": "/no/compiler", "PATH": "", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    return done.stdout.startswith("made") and done.returncode != 0


def gradients_of_leaves_are_asked_for() -> bool:
    """``torch.library.opcheck`` warns of ``.grad`` of a tensor that is not a leaf."""
    import warnings

    @torch.library.custom_op("faults::double", mutates_args=())
    def double(x: Tensor) -> Tensor:
        return x * 2

    double.register_fake(torch.empty_like)
    double.register_autograd(lambda _, gradient: gradient * 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.library.opcheck(double, (torch.ones(2, requires_grad=True) * 1,))
    return any(".grad attribute" in str(warning.message) for warning in caught)


def unfold_is_written_by_slices() -> bool:
    """The compiled backward pass of ``unfold`` is wrong or writes beyond its memory (looked at in a process)."""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", inspect.getsource(_unfold) + "\n_unfold()"], capture_output=True)
    return done.returncode != 0


def _unfold() -> None:
    import torch
    import torch.nn.functional as F

    def windows(x):  # type: ignore[no-untyped-def]
        return F.pad(x, (0, 0, 3, 0)).unfold(1, 4, 1).mT.flatten(0, 1).sin().square().sum()

    for shape in ((3, 16, 40), (2, 64, 64), (5, 7, 33)):
        x = torch.randn(shape, requires_grad=True)
        (wanted,) = torch.autograd.grad(windows(x), x)
        (found,) = torch.autograd.grad(torch.compile(windows)(x), x)
        torch.testing.assert_close(found, wanted)


if __name__ == "__main__":
    main(dict(globals()))
