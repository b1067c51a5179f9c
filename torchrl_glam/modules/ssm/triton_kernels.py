"""The Triton kernels of the selective scan; :mod:`~torchrl_glam.modules.ssm.triton_backend` launches them.

Letters as in :mod:`~torchrl_glam.modules.ssm.scan`, formulas of the gradients as in
:mod:`~torchrl_glam.modules.ssm.torch_backend`. A program holds the states of a block of channels, ``h`` [BLOCK_D
BLOCK_N], in registers and walks along t, so no [b t d n] tensor exists. All tensors are contiguous and of one floating
dtype, in which everything is computed. Entries beyond d or n are read as 0, so a state there stays 0.

The forward pass keeps only the states before the steps CHUNK, 2 CHUNK, ..; for every step, the backward pass computes
its state again from the one kept before it. With CHUNK = 4 that is 6 steps for each 4. 3 would be enough, but only with
memory for the states in between, as registers cannot be indexed. A sequence of up to 4 tokens (a window) keeps none.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
from __future__ import annotations

import importlib.util

if importlib.util.find_spec("triton") is not None:
    import triton.language as tl
    from triton import jit
else:  # Nothing here runs then, but a tool that imports every file, such as pytest in search of doctests, can.

    def jit(kernel):
        return kernel


@jit
def _read(tensor, row, size: tl.constexpr, index):
    """Read a row of a matrix whose rows have ``size`` entries; 0 beyond its end."""
    return tl.load(tensor + row * size + index, mask=index < size, other=0.0)


@jit
def _advance(h, A, u_t, delta_t, B_t):
    """Return the state after a step."""
    return tl.exp(delta_t[:, None] * A) * h + (delta_t * u_t)[:, None] * B_t[None, :]


@jit
def _state_before(
    t,
    row,
    u,
    delta,
    A,
    B,
    state,
    kept,
    length,
    d,
    n,
    WIDTH: tl.constexpr,
    N: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Compute the state before step t again, from the last one that was kept."""
    tile, in_tile = d[:, None] * N + n[None, :], (d < WIDTH)[:, None] & (n < N)[None, :]
    start = t // CHUNK * CHUNK
    h = tl.zeros_like(A)
    if start > 0:
        slot = row * ((length - 1) // CHUNK) + start // CHUNK - 1
        h = tl.load(kept + slot * WIDTH * N + tile, mask=in_tile, other=0.0)
    elif state is not None:
        h = tl.load(state + row * WIDTH * N + tile, mask=in_tile, other=0.0)
    for s in range(start, t):
        at = row * length + s
        h = _advance(h, A, _read(u, at, WIDTH, d), _read(delta, at, WIDTH, d), _read(B, at, N, n))
    return h


@jit
def scan_forward(
    u,
    delta,
    A,
    B,
    C,
    D,
    state,
    y,
    last_state,
    kept,
    length,
    WIDTH: tl.constexpr,
    N: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Scan one row of the batch and one block of channels; D, state and kept may be None."""
    blocks: tl.constexpr = (WIDTH + BLOCK_D - 1) // BLOCK_D
    row = (tl.program_id(0) // blocks).to(tl.int64)
    d, n = tl.program_id(0) % blocks * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    tile, in_tile = d[:, None] * N + n[None, :], (d < WIDTH)[:, None] & (n < N)[None, :]
    A = tl.load(A + tile, mask=in_tile, other=0.0)
    h = tl.zeros_like(A)
    if state is not None:
        h = tl.load(state + row * WIDTH * N + tile, mask=in_tile, other=0.0)
    for t in range(length):
        if kept is not None:
            slot = row * ((length - 1) // CHUNK) + t // CHUNK - 1
            tl.store(kept + slot * WIDTH * N + tile, h, mask=in_tile & (t > 0) & (t % CHUNK == 0))
        at = row * length + t
        u_t = _read(u, at, WIDTH, d)
        h = _advance(h, A, u_t, _read(delta, at, WIDTH, d), _read(B, at, N, n))
        y_t = tl.sum(h * _read(C, at, N, n)[None, :], axis=1)
        if D is not None:
            y_t += _read(D, 0, WIDTH, d) * u_t
        tl.store(y + at * WIDTH + d, y_t, mask=d < WIDTH)
    tl.store(last_state + row * WIDTH * N + tile, h, mask=in_tile)


@jit
def scan_backward(
    grad_y,
    grad_last,
    u,
    delta,
    A,
    B,
    C,
    D,
    state,
    kept,
    grad_u,
    grad_delta,
    sum_A,
    sum_B,
    sum_C,
    sum_D,
    grad_state,
    batch,
    length,
    rows,
    WIDTH: tl.constexpr,
    N: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Walk back through ``rows`` rows of the batch and one block of channels; grad_last, D and state may be None.

    ``sum_*`` are partial sums of gradients: of A [groups d n] and D [groups d], one for each group of rows; of B and C
    [blocks b t n]. Added up afterwards, in a fixed order, they give the same result every time; atomics would not.
    """
    blocks: tl.constexpr = (WIDTH + BLOCK_D - 1) // BLOCK_D
    group, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    d, n = block * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    tile, in_tile = d[:, None] * N + n[None, :], (d < WIDTH)[:, None] & (n < N)[None, :]
    A = tl.load(A + tile, mask=in_tile, other=0.0)
    grad_A = tl.zeros_like(A)
    grad_D = tl.sum(grad_A, axis=1)
    for row_index in range(group * rows, tl.minimum(batch, (group + 1) * rows)):
        row = tl.cast(row_index, tl.int64)
        g = tl.zeros_like(A)
        if grad_last is not None:
            g = tl.load(grad_last + row * WIDTH * N + tile, mask=in_tile, other=0.0)
        for steps_back in range(length):
            t = length - 1 - steps_back
            at = row * length + t
            h = _state_before(t, row, u, delta, A, B, state, kept, length, d, n, WIDTH, N, CHUNK)
            u_t, delta_t, dy_t = _read(u, at, WIDTH, d), _read(delta, at, WIDTH, d), _read(grad_y, at, WIDTH, d)
            B_t, C_t = _read(B, at, N, n), _read(C, at, N, n)
            decay = tl.exp(delta_t[:, None] * A)
            decayed, v_t = decay * h, delta_t * u_t
            h = decayed + v_t[:, None] * B_t[None, :]
            g += dy_t[:, None] * C_t[None, :]
            partial = ((block * batch + row) * length + t) * N + n
            tl.store(sum_C + partial, tl.sum(h * dy_t[:, None], axis=0), mask=n < N)
            tl.store(sum_B + partial, tl.sum(g * v_t[:, None], axis=0), mask=n < N)
            dv_t, q = tl.sum(g * B_t[None, :], axis=1), g * decayed
            tl.store(grad_delta + at * WIDTH + d, tl.sum(A * q, axis=1) + dv_t * u_t, mask=d < WIDTH)
            du_t = dv_t * delta_t
            if D is not None:
                du_t += _read(D, 0, WIDTH, d) * dy_t
            tl.store(grad_u + at * WIDTH + d, du_t, mask=d < WIDTH)
            grad_A += delta_t[:, None] * q
            grad_D += dy_t * u_t
            g *= decay
        if state is not None:
            tl.store(grad_state + row * WIDTH * N + tile, g, mask=in_tile)
    tl.store(sum_A + group * WIDTH * N + tile, grad_A, mask=in_tile)
    if D is not None:
        tl.store(sum_D + group * WIDTH + d, grad_D, mask=d < WIDTH)
