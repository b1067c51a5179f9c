"""A check that a backbone keeps the contract of :mod:`torchrl_glam.modules.dynamics.base`, for classes of users.

``b`` batch, ``t`` time, ``d`` width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError, describe_error
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.modules.dynamics.base import SequenceBackbone

BATCH = 2


def check_backbone(backbone: nn.Module, length: int = 6) -> None:
    """Try a backbone on random tokens, in eval mode, on its own device and in its own dtype.

    It finds:

    * a class that is no :class:`SequenceBackbone`, or has no width;
    * outputs of other shapes or dtypes than those of the contract;
    * a memory that changes its keys, shapes or dtypes, or is written to;
    * beliefs that see the future;
    * a ``step`` or ``prefill`` that returns other beliefs than ``forward``.

    Weights, training modes and random numbers do not change.

    Args:
        backbone: the module to try.
        length: number of tokens to try it on, 2 or more; longer sequences are not tried.

    Raises:
        UsageError: names the first thing that is missing or wrong.

    Examples:
        >>> from torchrl_glam.modules import MambaDynamics, check_backbone
        >>> check_backbone(MambaDynamics(32))
    """
    backbone = _check_class(backbone)
    state = next(itertools.chain(backbone.parameters(), backbone.buffers()), torch.empty(0))
    dtype = state.dtype if state.is_floating_point() else torch.get_default_dtype()
    with _undisturbed(backbone):
        tokens = torch.randn(BATCH, length, backbone.width, dtype=dtype, device=state.device)
        trial = _Trial(backbone, tokens)
        trial.check_causality()
        trial.check_steps(trial.initial, 0)
        trial.check_steps(trial.run("forward", tokens[:, : trial.middle])[-1], trial.middle)
        trial.check_shortcuts()


def _check_class(backbone: nn.Module) -> SequenceBackbone:
    name = type(backbone).__name__
    if not isinstance(backbone, SequenceBackbone):
        wanted = ("forward", "step", "initial_memory")
        missing = [method for method in wanted if getattr(type(backbone), method, None) in (None, nn.Module.forward)]
        lacks = f", and lacks {', '.join(missing)}" if missing else ""
        raise UsageError(f"{name} is no sequence backbone{lacks}: subclass torchrl_glam.modules.SequenceBackbone")
    width = getattr(backbone, "width", None)
    if not isinstance(width, int) or width < 1:
        raise UsageError(f"{name}.width is {width!r}: a positive int is wanted; call super().__init__(width)")
    return backbone


@contextmanager
def _undisturbed(backbone: nn.Module) -> Iterator[None]:
    """Use eval mode, no gradients and a fixed seed inside the context; restore all of them after it."""
    modes = {module: module.training for module in backbone.modules()}
    with torch.no_grad(), kept_generators(seed=0):
        backbone.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


class _Trial:
    """The beliefs of ``forward``, with which those of the other methods are compared."""

    def __init__(self, backbone: SequenceBackbone, tokens: Float[Tensor, "b t d"]) -> None:
        self.backbone = backbone
        self.tokens = tokens
        self.middle = tokens.shape[1] // 2
        self.initial = self.call("initial_memory", BATCH)
        self.check_memory("initial_memory", self.initial)
        self.beliefs = self.run("forward", tokens)[0]
        # Rounding differs with the shapes of products, in TF32 by 1e-3; real errors are mostly of order 1.
        self.tolerance = torch.finfo(tokens.dtype).eps ** 0.25 * self.beliefs.abs().max().item()

    def fail(self, text: str) -> NoReturn:
        raise UsageError(f"{type(self.backbone).__name__} breaks the contract of a sequence backbone: {text}")

    def call(self, method: str, *inputs: Any) -> Any:
        try:
            return getattr(self.backbone, method)(*inputs)
        except UsageError:
            raise
        except Exception as error:
            given = ", ".join(map(_describe, inputs))
            self.fail(f"{method} raised {describe_error(error)}, given {given}")

    def run(self, method: str, tokens: Tensor, *inputs: Any, like: Tensor | None = None, size: int = 2) -> Any:
        """Call a method and check the tuple that it returns: beliefs first, ``like`` the tokens; the memory last."""
        result = self.call(method, tokens, *inputs)
        if not isinstance(result, tuple) or len(result) != size:
            self.fail(f"{method} returned {_describe(result)}, where a tuple of {size} is wanted, the memory last")
        self.check_beliefs(method, result[0], tokens if like is None else like)
        self.check_memory(method, result[-1])
        return result

    def check_beliefs(self, method: str, beliefs: object, like: Tensor) -> None:
        if _describe(beliefs) != _describe(like):
            self.fail(f"{method} returned {_describe(beliefs)} as belief, where {_describe(like)} is wanted")

    def check_memory(self, method: str, memory: object) -> None:
        """Check for a TensorDict ``[b]`` with the keys, shapes, dtypes and devices of the initial memory."""
        if not isinstance(memory, TensorDictBase) or memory.batch_size != (BATCH,):
            self.fail(f"{method} returned {_describe(memory)} as memory, where a TensorDict [{BATCH}] is wanted")
        wanted, got = _layout(self.initial), _layout(memory)
        for key in wanted | got:
            if wanted.get(key) != got.get(key):
                before, after = wanted.get(key, "not there"), got.get(key, "not there")
                self.fail(f"memory {key!r} is {before} after initial_memory, but {after} after {method}")

    def compare(self, what: str, beliefs: Float[Tensor, "b n d"], start: int = 0) -> None:
        """Compare beliefs with those of ``forward`` from ``t = start``."""
        errors = (beliefs - self.beliefs[:, start : start + beliefs.shape[1]]).abs().amax((0, 2))
        for t, error in enumerate(errors.tolist(), start):
            if not error <= self.tolerance:  # NaN is an error too
                self.fail(f"{what}: another belief at t={t}, by {error:.2g}")

    def check_causality(self) -> None:
        changed = self.tokens.clone()
        changed[:, self.middle :] += 1
        beliefs = self.run("forward", changed)[0]
        self.compare(f"forward sees the future, tokens from t={self.middle} on", beliefs[:, : self.middle])

    def check_steps(self, memory: TensorDictBase, start: int) -> None:
        """Check that ``step`` continues from the memory of ``start`` tokens as ``forward`` does."""
        beliefs = []
        for token in self.tokens[:, start:].unbind(1):
            before = memory.clone()
            belief, following = self.run("step", token, memory)
            for key in _layout(before):
                if not torch.equal(before[key], memory[key]):
                    self.fail(f"step writes to the memory {key!r} that it is given: return a new one")
            beliefs.append(belief)
            memory = following
        source = f"the memory of forward over {start} tokens" if start else "initial_memory"
        self.compare(f"step, from {source}, is not as forward", torch.stack(beliefs, 1), start)

    def check_shortcuts(self) -> None:
        """Check ``prefill`` and ``forward_variation``, which a class may override."""
        belief = self.run("prefill", self.tokens, like=self.tokens[:, -1])[0]
        self.compare("prefill is not as forward", belief.unsqueeze(1), self.tokens.shape[1] - 1)
        beliefs, variation, _ = self.run("forward_variation", self.tokens, size=3)
        if self.backbone.has_variation is not (variation is not None):
            returned = "none" if variation is None else "one"
            self.fail(f"has_variation is {self.backbone.has_variation}, but forward_variation returned {returned}")
        if variation is not None:
            self.check_beliefs("forward_variation", variation, self.tokens)
        self.compare("forward_variation is not as forward", beliefs)


def _layout(memory: TensorDictBase) -> dict[Any, str]:
    """Describe each entry in words."""
    return {key: f"{_describe(value)} on {value.device}" for key, value in memory.items(True, True)}


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, TensorDictBase):
        return f"a TensorDict {list(value.batch_size)}"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
