"""Which backend a name stands for, and what is refused."""

from __future__ import annotations

import pytest
import torch

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.ssm import (
    MambaBlock,
    available_backends,
    describe_backend,
    resolve_backend,
)

PLAIN = ("reference", "torch")
COMPILED = (*PLAIN, "cpp")


@pytest.mark.parametrize(
    ("installed", "device", "available", "auto"),
    [
        ({}, None, PLAIN, "torch"),
        ({}, "cuda", PLAIN, "torch"),
        ({"triton": True}, None, PLAIN, "torch"),
        ({"triton": True}, "cpu", PLAIN, "torch"),
        ({"triton": True, "interpreter": True}, "cpu", (*PLAIN, "triton"), "torch"),
        ({"interpreter": True}, "cpu", PLAIN, "torch"),
        ({"compiler": True}, "cpu", COMPILED, "cpp"),
        ({"compiler": True}, None, COMPILED, "torch"),
        ({"compiler": True}, "cuda", PLAIN, "torch"),
        ({"compiler": True, "triton": True, "cuda": True}, "cuda", (*PLAIN, "triton"), "triton"),
        ({"triton": True, "cuda": True}, None, (*PLAIN, "triton"), "torch"),
        ({"triton": True, "cuda": True}, "cpu", PLAIN, "torch"),
        ({"triton": True, "cuda": True}, torch.device("cuda", 1), (*PLAIN, "triton"), "triton"),
        ({"mamba_ssm": True, "cuda": True}, "cuda", (*PLAIN, "mamba_ssm"), "torch"),
        ({"mamba_ssm": True, "cuda": True}, "cpu", PLAIN, "torch"),
        ({"triton": True, "mamba_ssm": True, "cuda": True}, "cuda:0", (*PLAIN, "triton", "mamba_ssm"), "triton"),
    ],
)
def test_what_is_available_and_what_auto_stands_for(machine, installed, device, available, auto):
    machine(**installed)
    assert available_backends(device) == available
    assert resolve_backend("auto", device) == auto
    assert [resolve_backend(name, device) for name in available] == list(available)
    for name in {"cpp", "triton", "mamba_ssm"} - set(available):
        with pytest.raises(UsageError, match=f"'{name}'"):
            resolve_backend(name, device)


@pytest.mark.parametrize(
    ("installed", "name", "device", "text"),
    [
        ({}, "triton", "cuda", r"'triton' needs the package triton \(pip install triton\)"),
        (
            {"triton": True},
            "triton",
            None,
            r"'triton' runs on a CUDA device, and there is none here \(TRITON_INTERPRET=1",
        ),
        ({"triton": True, "cuda": True}, "triton", "cpu", "'triton' runs on a CUDA device, not on 'cpu'"),
        ({"cuda": True}, "mamba_ssm", "cuda", "'mamba_ssm' needs .*MAMBA_KEEP_CUDA_BUILD=TRUE pip install"),
        ({"mamba_ssm": True, "cuda": True}, "mamba_ssm", "cpu", "'mamba_ssm' runs on a CUDA device, not on 'cpu'"),
        ({}, "cpp", "cpu", "'cpp' needs a C\\+\\+ compiler: no compiler here; install g"),
        ({"compiler": True}, "cpp", "cuda", "'cpp' runs on a CPU, not on 'cuda'"),
        ({}, "cudda", None, "There is no scan backend 'cudda'"),
    ],
)
def test_what_is_refused(machine, installed, name, device, text):
    machine(**installed)
    with pytest.raises(UsageError, match=text) as error:
        resolve_backend(name, device)
    assert str(error.value).endswith("use one of: auto, reference, torch.")
    assert "\n" not in str(error.value)


def test_a_block_and_a_scan_refuse_what_is_not_here(machine):
    machine()
    with pytest.raises(UsageError, match="pip install triton"):
        MambaBlock(4, backend="triton")
    machine(triton=True, cuda=True)
    block = MambaBlock(4, backend="triton")  # may move to the GPU before its first scan
    with pytest.raises(UsageError, match="not on 'cpu'"):
        block(torch.zeros(1, 2, 4))
    with pytest.raises(UsageError, match="not on 'cpu'"):
        block.step(torch.zeros(1, 4), block.initial_memory(1))


def test_a_cpu_without_a_compiler_says_what_it_costs(machine):
    machine()
    assert describe_backend("auto", "cpu") == "torch (no compiler here: several times slower)"
    assert describe_backend("torch", "cpu") == "torch", "asked for"
    machine(compiler=True)
    assert describe_backend("auto", "cpu") == "cpp"


def test_cuda_without_triton_says_what_it_costs(machine):
    machine(cuda=True)
    assert describe_backend("auto", "cuda").startswith("torch (no package triton: ")
    assert describe_backend("torch", "cuda") == "torch", "asked for"
    machine(triton=True, cuda=True)
    assert describe_backend("auto", "cuda") == "triton"
