"""The ``cpp`` backend: kernels.cpp, compiled at the first use on a machine that has a C++ compiler.

Letters as in :mod:`~torchrl_glam.modules.ssm.scan`. Beside the scan, it has the parts around it that a Mamba block
needs: the convolution with its SiLU, the softplus of the step sizes and the gate. Each is one pass over the data, so
that no result between them is written to memory. The backward pass computes the states again.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchrl_glam.modules.ssm.cpp_library import load_library

_PIECE, _VECTOR = 8, 64  # steps between kept states, and bytes of a vector, as in kernels.cpp
_WORK = 2**20  # elements of all states for which another thread pays


class _Rows(ctypes.Structure):
    """``[b t ..]`` by its strides."""

    _fields_ = (("at", ctypes.c_void_p), ("batch", ctypes.c_int64), ("time", ctypes.c_int64))


def _structure(name: str, **fields: Any) -> Any:
    """Make a structure of kernels.cpp, from names of fields, each group before its type."""
    pairs = [(field, kind) for names, kind in fields.values() for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": pairs})


_INT, _POINTER = ctypes.c_int64, ctypes.c_void_p
_Scan = _structure(
    "Scan",
    numbers=("b t d n first softplus every threads", _INT),
    rows=("u delta B C gate valid", _Rows),
    flat=("A D state", _POINTER),
    output=("y", _Rows),
    states=("last starts", _POINTER),
)
_ScanGradients = _structure(
    "ScanGradients",
    given=("y", _Rows),
    states=("last starts", _POINTER),
    rows=("u delta B C gate", _Rows),
    flat=("A D state", _POINTER),
)
_Convolution = _structure(
    "Convolution",
    numbers=("b t d k threads", _INT),
    rows=("x before valid", _Rows),
    flat=("weight bias", _POINTER),
    output=("y", _Rows),
)
_ConvolutionGradients = _structure(
    "ConvolutionGradients", given=("y", _Rows), rows=("x before", _Rows), flat=("weight bias", _POINTER)
)


class _ScanInputs(NamedTuple):
    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    state: Tensor | None
    gate: Tensor | None
    valid: Tensor | None
    first: int
    softplus: bool
    every: int
    keep: bool  # the states from which the backward pass starts


class _ConvolutionInputs(NamedTuple):
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    before: Tensor | None
    valid: Tensor | None


_SCAN = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? state, Tensor? gate, Tensor? valid"
_SCAN += ", int first, bool softplus, int every, bool keep"
_CONVOLUTION = "Tensor x, Tensor weight, Tensor? bias, Tensor? before, Tensor? valid"


def cpp_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan` for inputs of float32 or float64."""
    return gated_scan(u, delta, A, B, C, D, state, softplus=False)


def gated_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None = None,
    gate: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    first: int = 0,
    softplus: bool = True,
    every: int = 1,
) -> tuple[Tensor, Tensor]:
    """Scan with step sizes ``valid * softplus(delta)``, and multiply the output by SiLU(gate).

    Args:
        u, delta, A, B, C, D, state: as for :func:`~torchrl_glam.modules.ssm.scan.selective_scan`; all float32, or all
            float64, on a CPU.
        gate: ``[b t-first d]``; no gate by default.
        valid: ``[b t 1]``, factors of the step sizes.
        first: the first step whose output is wanted.
        softplus: apply it to ``delta``.
        every: return the last state of each ``every``-th sequence only.

    Returns:
        y ``[b t-first d]``, and the states after the last step ``[b/every d n]``.
    """
    inputs = _ScanInputs(u, delta, A, B, C, D, state, gate, valid, first, softplus, every, torch.is_grad_enabled())
    if inputs.keep or torch.compiler.is_compiling():
        y, last, _ = _scan(*inputs)
    else:  # past the dispatcher, which takes longer than a short scan
        y, last, _ = _run_scan(*inputs)
    return y, last


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Return ``SiLU(bias + sum_j weight_j (valid x)_{t-k+1+j})``, the causal convolution of each channel.

    Args:
        x: ``[b t d]``, float32 or float64, on a CPU.
        weight: ``[d 1 k]``, the newest input last.
        bias: ``[d]``.
        before: ``[b k-1 d]``, the inputs before the first; zeros by default.
        valid: ``[b t 1]``, factors of ``x``.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _convolution(x, weight, bias, before, valid)
    return _run_convolution(x, weight, bias, before, valid)


def _run_scan(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    call, kept = _fill_scan(_ScanInputs(*inputs))
    y, last, starts = _allocate_scan(*inputs)
    call.y, call.last = _rows(y), last.data_ptr()
    call.starts = starts.data_ptr() if starts.numel() else None
    _call("scan_forward", y, call)
    del kept
    return y, last, starts


def _allocate_scan(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    call = _ScanInputs(*inputs)
    (batch, time, width), n = call.u.shape, call.A.shape[1]
    lanes = _VECTOR // call.u.element_size()
    pieces = -(-time // _PIECE) - 1 if call.keep else 0
    starts = call.u.new_empty(pieces, batch, -(-width // lanes), n, lanes) if pieces else call.u.new_empty(0)
    return call.u.new_empty(batch, time - call.first, width), call.u.new_empty(batch // call.every, width, n), starts


_scan = torch.library.custom_op(
    "torchrl_glam::cpp_scan", _run_scan, mutates_args=(), schema=f"({_SCAN}) -> (Tensor, Tensor, Tensor)"
)
_scan.register_fake(_allocate_scan)


def _run_scan_backward(
    grad_y: Tensor | None, grad_last: Tensor | None, starts: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, D, state and gate; those of absent ones are empty."""
    inputs = _ScanInputs(*given)
    call, kept = _fill_scan(inputs)
    gradients = _allocate_scan_gradients(grad_y, grad_last, starts, *given)
    du, ddelta, dA, dB, dC, dD, dstate, dgate = gradients
    parts_A, parts_D = dA.new_empty(call.threads, *inputs.A.mT.shape), dA.new_empty(call.threads, len(dA))
    grad_y = None if grad_y is None else _lined(grad_y)
    grad_last = None if grad_last is None else grad_last.contiguous()
    rows = {"u": du, "delta": ddelta, "B": dB, "C": dC, "gate": dgate, "y": grad_y}
    flat = {"A": parts_A, "D": parts_D, "state": dstate, "last": grad_last, "starts": starts}
    _call("scan_backward", du, call, _ScanGradients(**_addresses(rows, flat)))
    del kept
    dA.copy_(parts_A.sum(0).mT)
    if inputs.D is not None:
        dD.copy_(parts_D.sum(0))
    return gradients


def _allocate_scan_gradients(grad_y: Any, grad_last: Any, starts: Any, *given: Any) -> tuple[Tensor, ...]:
    return tuple(_fresh(given[0], tensor) for tensor in given[:8])


_scan_backward = torch.library.custom_op(
    "torchrl_glam::cpp_scan_backward",
    _run_scan_backward,
    mutates_args=(),
    schema=f"(Tensor? grad_y, Tensor? grad_last, Tensor starts, {_SCAN}) -> ({', '.join(['Tensor'] * 8)})",
)
_scan_backward.register_fake(_allocate_scan_gradients)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[2], *inputs[:9])
    ctx.options = inputs[9:]


def _differentiate_scan(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None, _: None) -> tuple[Any, ...]:
    starts, *given = ctx.saved_tensors
    gradients = _scan_backward(grad_y, grad_last, starts, *given, *ctx.options)
    wanted = (None if tensor is None else gradient for gradient, tensor in zip(gradients, given, strict=False))
    return (*wanted, *[None] * 5)


_scan.register_autograd(_differentiate_scan, setup_context=_keep_scan)


def _run_convolution(*inputs: Any) -> Tensor:
    call, kept = _fill_convolution(_ConvolutionInputs(*inputs))
    y = inputs[0].new_empty(inputs[0].shape)
    call.y = _rows(y)
    _call("convolution_forward", y, call)
    del kept
    return y


_convolution = torch.library.custom_op(
    "torchrl_glam::cpp_convolution", _run_convolution, mutates_args=(), schema=f"({_CONVOLUTION}) -> Tensor"
)
_convolution.register_fake(lambda *inputs: inputs[0].new_empty(inputs[0].shape))


def _run_convolution_backward(grad_y: Tensor, *given: Any) -> tuple[Tensor, ...]:
    """Return the gradients of x, weight, bias and before; those of absent ones are empty."""
    inputs = _ConvolutionInputs(*given)
    call, kept = _fill_convolution(inputs)
    gradients = _allocate_convolution_gradients(grad_y, *given)
    dx, dweight, dbias, dbefore = gradients
    parts_weight, parts_bias = dx.new_zeros(call.threads, call.k, call.d), dx.new_zeros(call.threads, call.d)
    rows = {"y": _lined(grad_y), "x": dx, "before": dbefore}
    flat = {"weight": parts_weight, "bias": parts_bias}
    _call("convolution_backward", dx, call, _ConvolutionGradients(**_addresses(rows, flat)))
    del kept
    dweight.copy_(parts_weight.sum(0).mT.unsqueeze(1))
    if inputs.bias is not None:
        dbias.copy_(parts_bias.sum(0))
    return gradients


def _allocate_convolution_gradients(grad_y: Tensor, *given: Any) -> tuple[Tensor, ...]:
    return tuple(_fresh(grad_y, tensor) for tensor in given[:4])


_convolution_backward = torch.library.custom_op(
    "torchrl_glam::cpp_convolution_backward",
    _run_convolution_backward,
    mutates_args=(),
    schema=f"(Tensor grad_y, {_CONVOLUTION}) -> (Tensor, Tensor, Tensor, Tensor)",
)
_convolution_backward.register_fake(_allocate_convolution_gradients)


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_convolution(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    gradients = _convolution_backward(grad_y, *given)
    wanted = (None if tensor is None else gradient for gradient, tensor in zip(gradients, given, strict=False))
    return (*wanted, None)


_convolution.register_autograd(_differentiate_convolution, setup_context=_keep_convolution)


def _fill_scan(inputs: _ScanInputs) -> tuple[Any, Any]:
    """Return the structure of a call, and the tensors that it points into."""
    (batch, time, width), n = inputs.u.shape, inputs.A.shape[1]
    threads = _threads(batch, inputs.u.numel() * n)
    by_step = {name: getattr(inputs, name) for name in ("u", "delta", "B", "C", "gate", "valid")}
    rows, flat = _lay_out(by_step, {"A": inputs.A.mT, "D": inputs.D, "state": inputs.state})
    numbers = (batch, time, width, n, inputs.first, inputs.softplus, inputs.every, threads)
    return _Scan(*numbers, **_addresses(rows, flat)), (rows, flat)


def _fill_convolution(inputs: _ConvolutionInputs) -> tuple[Any, Any]:
    """As :func:`_fill_scan`."""
    (batch, time, width), k = inputs.x.shape, inputs.weight.shape[-1]
    by_step = {"x": inputs.x, "before": inputs.before, "valid": inputs.valid}
    rows, flat = _lay_out(by_step, {"weight": inputs.weight[:, 0].mT, "bias": inputs.bias})
    numbers = (batch, time, width, k, _threads(batch, 8 * inputs.x.numel()))
    return _Convolution(*numbers, **_addresses(rows, flat)), (rows, flat)


_Tensors = dict[str, Tensor]


def _lay_out(rows: dict[str, Tensor | None], flat: dict[str, Tensor | None]) -> tuple[_Tensors, _Tensors]:
    """Return the tensors that there are, laid out in memory as kernels.cpp wants them."""
    lined = {name: _lined(tensor) for name, tensor in rows.items() if tensor is not None}
    return lined, {name: tensor.contiguous() for name, tensor in flat.items() if tensor is not None}


def _addresses(rows: dict[str, Tensor | None] | _Tensors, flat: dict[str, Tensor | None] | _Tensors) -> dict[str, Any]:
    """Return the fields of a structure; absent and empty tensors have none."""
    fields: dict[str, Any] = {n: _rows(tensor) for n, tensor in rows.items() if tensor is not None and tensor.numel()}
    return fields | {n: tensor.data_ptr() for n, tensor in flat.items() if tensor is not None and tensor.numel()}


def _rows(tensor: Tensor) -> _Rows:
    return _Rows(tensor.data_ptr(), tensor.stride(0), tensor.stride(1))


def _call(name: str, like: Tensor, *structures: Any) -> None:
    function = getattr(load_library(), f"{name}_{str(like.dtype).removeprefix('torch.')}")
    function(*map(ctypes.byref, structures))


def _threads(batch: int, work: int) -> int:
    return max(1, min(torch.get_num_threads(), batch, work // _WORK))


def _lined(tensor: Tensor) -> Tensor:
    """Return the tensor with a contiguous last dimension."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _fresh(like: Tensor, tensor: Tensor | None) -> Tensor:
    """Return contiguous memory of this shape, none of it for ``None``."""
    return like.new_empty(0 if tensor is None else tensor.shape)
