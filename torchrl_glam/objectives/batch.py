"""Checks of a batch, with error messages that name what is wrong."""

from __future__ import annotations

from tensordict import NestedKey, TensorDictBase, unravel_key
from torchrl.objectives import LossModule

from torchrl_glam.errors import UsageError


def check_keys(loss: LossModule, tensordict: TensorDictBase) -> None:
    """Raise UsageError if ``tensordict`` lacks one of the ``in_keys`` of any TorchRL loss."""
    for key in getattr(loss, "in_keys", None) or ():
        if tensordict.get(key, None) is None:
            raise missing_key(loss, key, tensordict)


def missing_key(loss: LossModule, key: NestedKey, tensordict: TensorDictBase) -> UsageError:
    """Return the error that says that ``loss`` reads ``key``, and what there is."""
    names = [name for name, value in vars(loss.tensor_keys).items() if key in (value, unravel_key(("next", value)))]
    rename = f", or name yours by loss.set_keys({names[0]}=...)" if names else ""
    entries = ", ".join(map(str, tensordict.keys(True, True)))
    return UsageError(f"the batch for {type(loss).__name__} has no {key}: add it{rename}; it has {entries}")


def check_padding(loss: LossModule, tensordict: TensorDictBase) -> None:
    """Raise UsageError if ``tensordict`` has one of the masks that ``loss.loss_mask_key`` names.

    TorchRL's losses leave padded steps out of their means; ours would learn from them without a word.
    """
    # The list of masks is public in no form in torchrl 0.14.1.
    for key in loss._loss_mask_keys():
        if tensordict.get(key, None) is not None:
            raise UsageError(
                f"the batch has a mask {key} of padded steps: {type(loss).__name__} wants whole windows, so sample "
                "without padding (pad_output=False); if nothing is padded, set loss.loss_mask_key = None"
            )
