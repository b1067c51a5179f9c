"""The backend of Mamba's authors, with a stand-in for their package."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.ssm import backends, selective_scan, selective_scan_reference
from torchrl_glam.modules.ssm.mamba_ssm_backend import mamba_ssm_scan


@pytest.fixture
def mamba_ssm(monkeypatch):
    """A package with the documented function of mamba_ssm, computed by the reference; the list has its calls."""
    calls = []

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        assert all(tensor.is_contiguous() for tensor in (u, delta, A, B, C))
        assert (z, delta_bias, delta_softplus) == (None, None, False)
        calls.append(tuple(u.shape))
        y, last = selective_scan_reference(u.mT, delta.mT, A, B.mT, C.mT, D)
        return (y.mT, last.detach()) if return_last_state else y.mT

    package = ModuleType("mamba_ssm.ops.selective_scan_interface")
    package.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return calls


def make_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 3), (2, 5, 3), (3, 4), (2, 5, 4), (2, 5, 4), (3,)]
    inputs = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    inputs[1], inputs[2] = inputs[1].exp(), -inputs[2].exp()
    return [tensor.requires_grad_() for tensor in inputs]


@pytest.mark.parametrize("skip", [True, False])
def test_mamba_ssm_is_called_in_its_own_layout(mamba_ssm, skip):
    inputs = make_inputs()[: 6 if skip else 5]
    y, last = mamba_ssm_scan(*inputs, *([] if skip else [None]), None)
    wanted, wanted_last = selective_scan_reference(*inputs)
    assert mamba_ssm == [(2, 3, 5)]
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(last, wanted_last)
    for left, right in zip(
        torch.autograd.grad(y.square().sum(), inputs), torch.autograd.grad(wanted.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_mamba_ssm_refuses_what_it_cannot_do(mamba_ssm):
    inputs = make_inputs()
    with pytest.raises(UsageError, match="starts from a zero state"):
        mamba_ssm_scan(*inputs, torch.zeros(2, 3, 4))
    with pytest.raises(UsageError, match=r"float32, not torch\.float64"):
        mamba_ssm_scan(*make_inputs(torch.float64), None)
    assert not mamba_ssm


def test_a_gradient_of_the_last_state_is_refused_not_dropped(mamba_ssm, monkeypatch):
    # The real function returns a last state that autograd connects with the inputs but that has no gradient.
    class Connected(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, last):
            return last.clone()

        @staticmethod
        def backward(ctx, gradient):
            return None, None

    package = sys.modules["mamba_ssm.ops.selective_scan_interface"]
    plain = package.selective_scan_fn
    monkeypatch.setattr(
        package,
        "selective_scan_fn",
        lambda u, *args, **options: (lambda y, last: (y, Connected.apply(u, last)))(*plain(u, *args, **options)),
    )
    y, last = mamba_ssm_scan(*make_inputs(), None)
    y.sum().backward(retain_graph=True)
    with pytest.raises(UsageError, match="no gradient for the last state"):
        (y.sum() + last.sum()).backward()


def test_selective_scan_reaches_mamba_ssm(mamba_ssm, machine, monkeypatch):
    machine(mamba_ssm=True, cuda=True)
    monkeypatch.setattr(backends, "_obstacle", lambda name, device: None)
    inputs = make_inputs(torch.bfloat16)
    y, last = selective_scan(*inputs, backend="mamba_ssm")
    assert (y.dtype, last.dtype, len(mamba_ssm)) == (torch.bfloat16, torch.float32, 1)
    torch.testing.assert_close(y, selective_scan(*inputs, backend="reference")[0])
