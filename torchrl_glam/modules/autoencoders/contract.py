"""What an encoder and a decoder must be, for classes of users.

``b`` any leading shape, ``k c`` categoricals and classes, ``kc`` both flattened, ``f`` features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError, describe_error
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.modules.autoencoders.base import Observation

ENTRIES = {"image_shape": ("pixels", "pixels"), "vector_size": ("observation", "a vector")}
"""For the name of each size of what is observed: the entry's key, and what it is in words."""


def make_coder(part: str, make: Callable[..., nn.Module], observed: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
    """Make an encoder or decoder.

    Args:
        part: ``encoder`` or ``decoder``.
        make: its class, or a partial of it.
        observed: sizes of what is observed.
        sizes: sizes of the latent.

    Raises:
        UsageError: if it cannot be made for what is observed, or an encoder lacks a method.
    """
    if not observed:
        raise UsageError("nothing is observed: give image_shape, vector_size or both")
    try:
        made = make(**observed, **sizes)
    except TypeError as error:  # of an argument that it lacks, or has too much
        what = " and ".join(kind for size, (_, kind) in ENTRIES.items() if size in observed)
        raise UsageError(f"this {part} cannot be made for {what} ({error}): choose {part}=auto, or another") from error
    if part == "encoder":
        _check_interface(made, [key for size, (key, _) in ENTRIES.items() if size in observed])
    return made


def _check_interface(encoder: nn.Module, observed: list[str]) -> None:
    """Raise UsageError for an encoder that lacks a method, or reads what is not observed."""
    if missing := [name for name in ("preprocess", "encode") if not callable(getattr(encoder, name, None))]:
        raise UsageError(f"the encoder {type(encoder).__name__} lacks {', '.join(missing)}: add what is missing")
    keys = getattr(encoder, "in_keys", ("pixels",))
    if not isinstance(keys, tuple | list) or not keys or not set(keys) <= set(observed):
        came, wanted = f"{type(encoder).__name__}.in_keys is {keys!r}", ", ".join(map(repr, observed))
        raise UsageError(f"{came}: a tuple of what is observed, {wanted}, is wanted")


def check_encoder(encoder: nn.Module, decoder: nn.Module, observation: Observation, latent: tuple[int, int]) -> None:
    """Try an encoder and a decoder on an observation, on copies; weights and random numbers do not change.

    An encoder has

    * ``preprocess(observation)``: the frames, floats that the decoder is compared with;
    * ``encode(frames)``: log-probabilities ``[*b k c]`` of the latent, differentiable, and features ``[*b f]``; with
      ``difference = True``, ``encode(frames, previous)``;
    * ``forward(observation)``, or with ``previous``: what ``encode`` returns;
    * ``in_keys``: the entries it reads, ``("pixels",)`` if it has none. Of one entry, observation and frames are
      tensors; of several, TensorDicts;
    * ``postprocess(frames)``, for pictures of vectors in raw units: the inverse of ``preprocess``. Without it they are
      drawn as the decoder returns them. Images on the 0..1 scale, channels first, need none.

    A decoder has ``forward(state [*b kc])``, which returns frames.

    Args:
        encoder, decoder: the modules to try.
        observation: for example two of the environment's, ``[2 ..]``.
        latent: (``k``, ``c``).

    Raises:
        UsageError: names the first thing that is wrong.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import ImageDecoder, ImageEncoder, check_encoder
        >>> pixels = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
        >>> check_encoder(ImageEncoder(), ImageDecoder(), pixels, (32, 32))
    """
    encoder, decoder = copy.deepcopy(encoder).eval(), copy.deepcopy(decoder).eval()
    batch = observation.batch_size if isinstance(observation, TensorDictBase) else observation.shape[:1]
    previous = (observation,) if getattr(encoder, "difference", False) else ()
    with kept_generators():
        frames = _run(encoder, "preprocess", observation)
        before = [_run(encoder, "preprocess", each) for each in previous]
        logits = _encode(encoder, "encode", frames, *before)
        _compare(encoder, "encode", {"logits": logits}, {"logits": torch.empty(*batch, *latent)})
        if not torch.allclose(logits.exp().sum(-1), torch.ones(()).to(logits), atol=1e-3):
            raise UsageError(f"{type(encoder).__name__}.encode returned logits that are no log-probabilities over c")
        if not logits.requires_grad:
            raise UsageError(f"{type(encoder).__name__}.encode returned logits that depend on no parameter")
        whole = _encode(encoder, "forward", observation, *previous)
        if whole.shape != logits.shape or not torch.allclose(whole, logits, atol=1e-5):
            raise UsageError(f"{type(encoder).__name__}.forward returned other logits than encode after preprocess")
        sequence = _encode(encoder, "encode", frames.unsqueeze(0), *(each.unsqueeze(0) for each in before))
        if sequence.shape != (1, *logits.shape) or not torch.allclose(sequence[0], logits, atol=1e-5):
            raise UsageError(
                f"{type(encoder).__name__}.encode returned other logits for a sequence [b t ..] than for each of its "
                "frames: any leading shape is wanted, and no frame may see another"
            )
        state = logits.exp().flatten(-2).detach()
        decoded = _run(decoder, "forward", state)
        _compare(decoder, "forward", _entries(decoded), _entries(frames))
        decoded = _run(decoder, "forward", state.unsqueeze(0))
        _compare(decoder, "forward", _entries(decoded), _entries(frames.unsqueeze(0)))
        if hasattr(encoder, "postprocess"):
            _run(encoder, "postprocess", frames)


def _run(module: nn.Module, method: str, *inputs: Observation) -> Any:
    try:
        return module(*inputs) if method == "forward" else getattr(module, method)(*inputs)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{type(module).__name__}.{method} raised {describe_error(error)}") from error


def _encode(encoder: nn.Module, method: str, *inputs: Observation) -> Tensor:
    """Return the logits of ``encode`` or ``forward``."""
    encoded = _run(encoder, method, *inputs)
    if not isinstance(encoded, tuple) or len(encoded) != 2 or not all(isinstance(part, Tensor) for part in encoded):
        raise UsageError(f"{type(encoder).__name__}.{method} returned no pair: logits and features are wanted")
    return encoded[0]


def _entries(observation: Observation) -> dict[Any, Tensor]:
    if isinstance(observation, TensorDictBase):
        return dict(observation.items(True, True))
    return {"frames": observation}


def _compare(module: nn.Module, method: str, came: Mapping[Any, Tensor], wanted: Mapping[Any, Tensor]) -> None:
    for key in dict.fromkeys([*wanted, *came]):
        shapes = [list(each[key].shape) if isinstance(each.get(key), Tensor) else None for each in (came, wanted)]
        if shapes[0] != shapes[1] or not came[key].is_floating_point():
            got = f"{came[key].dtype} {shapes[0]}" if shapes[0] else "nothing"
            raise UsageError(f"{type(module).__name__}.{method} returned {got} as {key}: floats {shapes[1]} are wanted")


def example_observation(
    image_shape: tuple[int, ...] | None, vector_size: int, keys: tuple[str, ...], number: int = 2
) -> Observation:
    """Return ``number`` random observations, as an encoder that reads ``keys`` gets them."""
    entries: dict[str, Tensor] = {}
    if image_shape is not None:
        entries["pixels"] = torch.randint(256, (number, *image_shape), dtype=torch.uint8)
    if vector_size:
        entries["observation"] = torch.randn(number, vector_size)
    if len(keys) == 1:
        return entries[keys[0]]
    return TensorDict({key: entries[key] for key in keys}, batch_size=[number])
