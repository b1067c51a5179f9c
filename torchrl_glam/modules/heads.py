"""The small networks around the sequence backbone: token in, predictions out.

``b`` any leading shape, ``d`` backbone width, ``k c`` categoricals and classes, ``kc`` both flattened, ``a`` width of
an action.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torchrl.modules.functional import symexp, symlog
from torchrl.modules.models.model_based import two_hot_cross_entropy, two_hot_decode

from torchrl_glam.errors import UsageError, describe_error
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.modules.latent import unimix_logits


def make_trunk(inputs: int, hidden: int, num_layers: int) -> nn.Sequential:
    """Make STORM's MLP: ``num_layers`` x [Linear (no bias), LayerNorm, ReLU]."""
    layers: list[nn.Module] = []
    for index in range(num_layers):
        layers += [nn.Linear(inputs if index == 0 else hidden, hidden, bias=False), nn.LayerNorm(hidden), nn.ReLU()]
    return nn.Sequential(*layers)


class ZeroLinear(nn.Linear):
    """Linear layer that starts at 0, so that it predicts 0 before any training (DreamerV3, arXiv 2301.04104).

    It is drawn like any other and then zeroed, so that a seed gives the layers after it the same weights either way.
    """

    def reset_parameters(self) -> None:
        """Set weight and bias to 0."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class StateActionEmbedding(nn.Module):
    """Token ``e_t = f(z_t, a_t)``: Linear (no bias), LayerNorm, ReLU, Linear (no bias).

    Args:
        state_size: width of the flattened latent, ``k * c``.
        action_size: width of the one-hot (or continuous) action.
        width: ``d``.

    Raises:
        UsageError: in ``forward``, if the actions have another width.
    """

    def __init__(self, state_size: int, action_size: int, width: int) -> None:
        super().__init__()
        self.action_size = action_size
        self.layers = nn.Sequential(
            *make_trunk(state_size + action_size, width, 1),
            nn.Linear(width, width, bias=False),
        )

    def forward(self, state: Float[Tensor, "*b kc"], action: Shaped[Tensor, "*b a"]) -> Float[Tensor, "*b d"]:
        """Return the tokens; actions may have any dtype."""
        if action.shape[-1:] != (self.action_size,):
            raise UsageError(
                f"the actions have shape {tuple(action.shape)}: the world model wants [.. {self.action_size}], one-hot "
                "or continuous; give those, or make it with another action_size"
            )
        return self.layers(torch.cat([state, action.to(state.dtype)], -1))


class CategoricalHead(nn.Module):
    """Layers to the unimixed log-probabilities of ``k`` categoricals: the prior of ``z_{t+1}``.

    Args:
        width: ``d``.
        num_categoricals: ``k``.
        num_classes: ``c``.
        unimix: uniform share of each categorical.
        num_layers: 1 is a linear layer (GLAM, STORM); others are preceded by Linear, LayerNorm, ReLU of width ``2 d``.
        residual: predict the change of a categorical that is known, none before any training.
    """

    def __init__(
        self,
        width: int,
        num_categoricals: int,
        num_classes: int,
        unimix: float = 0.01,
        num_layers: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.latent_shape = (num_categoricals, num_classes)
        self.unimix = unimix
        self.trunk = make_trunk(width, 2 * width, num_layers - 1)
        linear = ZeroLinear if residual else nn.Linear
        self.linear = linear(width if num_layers == 1 else 2 * width, num_categoricals * num_classes)

    def forward(
        self, belief: Float[Tensor, "*b d"], known: Float[Tensor, "*b kc"] | None = None
    ) -> Float[Tensor, "*b k c"]:
        """Return the log-probabilities, or those that the layers make of ``known`` ones: samples or probabilities."""
        logits = self.linear(self.trunk(belief)).unflatten(-1, self.latent_shape)
        if known is not None:
            share = max(self.unimix, 1e-3)  # of the uniform distribution: a sample's other classes stay possible
            mixed = known.unflatten(-1, self.latent_shape) * (1.0 - share) + share / self.latent_shape[1]
            logits = logits + mixed.log()
        return unimix_logits(logits, self.unimix)


def symlog_two_hot_loss(
    logits: Float[Tensor, "*b bins"],
    value: Float[Tensor, "*b 1"] | Float[Tensor, "*b"],
    bins: Float[Tensor, " bins"],
) -> Float[Tensor, ""]:
    """Return ``mean CE(twohot(symlog(value)), logits)``; the value is in raw units."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return two_hot_cross_entropy(logits, symlog(value.to(logits.dtype)), bins.to(logits.dtype)).mean()


class TwoHotHead(nn.Module):
    """Trunk and logits of a scalar on a grid that is uniform in symlog space; it predicts 0 before any training.

    The logits are decoded as ``symexp`` of the mean bin (STORM), which underestimates an uncertain value: a chance of
    0.1 of 100 becomes 0.6. With ``decoding="raw"`` it is the mean of the bins' raw values, here 10. There,
    probabilities of 1e-6 of the outermost bins would hide any real value, so bins beyond the largest target of
    :meth:`loss` do not count.

    Args:
        inputs: input width.
        hidden: width of the trunk.
        num_layers: layers of the trunk.
        num_bins: bins between ``-limit`` and ``limit`` in symlog space.
        limit: outermost bin in symlog space (20 reaches 4.8e8 in raw units).
        decoding: ``symlog`` or ``raw``.

    Raises:
        UsageError: if ``decoding`` is neither.
    """

    bins: Tensor
    reach: Tensor  # largest target shown, in symlog space

    def __init__(
        self,
        inputs: int,
        hidden: int,
        num_layers: int = 2,
        num_bins: int = 255,
        limit: float = 20.0,
        decoding: str = "symlog",
    ) -> None:
        super().__init__()
        if decoding not in ("symlog", "raw"):
            raise UsageError(f"decoding is {decoding!r}: choose symlog or raw")
        self.trunk = make_trunk(inputs, hidden, num_layers)
        self.logits = ZeroLinear(hidden, num_bins)
        self.decoding = decoding
        self.register_buffer("bins", torch.linspace(-limit, limit, num_bins), persistent=False)
        if decoding == "raw":
            self.register_buffer("reach", torch.zeros(()))

    def forward(self, inputs: Float[Tensor, "*b d"]) -> Float[Tensor, "*b bins"]:
        """Return the logits."""
        return self.logits(self.trunk(inputs))

    def decode(self, logits: Float[Tensor, "*b bins"]) -> Float[Tensor, "*b 1"]:
        """Decode logits to raw values, in at least float32."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.decoding == "symlog":
            return symexp(two_hot_decode(logits, self.bins)).unsqueeze(-1)
        beyond = self.bins.abs() > self.reach + (self.bins[1] - self.bins[0])
        return raw_mean(logits.masked_fill(beyond, -torch.inf), self.bins).unsqueeze(-1)

    def loss(self, logits: Float[Tensor, "*b bins"], target: Float[Tensor, "*b 1"]) -> Float[Tensor, ""]:
        """Return the cross-entropy of the logits to raw targets."""
        if self.decoding == "raw":
            with torch.no_grad():
                self.reach.copy_(torch.maximum(self.reach, symlog(target).abs().max()))
        return symlog_two_hot_loss(logits, target, self.bins)


def raw_mean(logits: Float[Tensor, "*b bins"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*b"]:
    """Return the mean of the raw values of ``bins`` in symlog space, under the distribution of ``logits``.

    The bins lie symmetrically around 0. Each is paired with its opposite, so that equal probabilities cancel exactly,
    however large the raw values are.
    """
    probabilities = logits.softmax(-1)
    odds = (probabilities - probabilities.flip(-1)) / 2
    return (odds * symexp(bins)).sum(-1)


class BinaryHead(nn.Module):
    """Trunk and one logit, for the probability that the episode (or a life) ends."""

    def __init__(self, inputs: int, hidden: int, num_layers: int = 2) -> None:
        super().__init__()
        self.trunk = make_trunk(inputs, hidden, num_layers)
        self.logit = nn.Linear(hidden, 1)

    def forward(self, inputs: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
        """Return the logit."""
        return self.logit(self.trunk(inputs))


def check_reward_head(head: nn.Module, width: int) -> None:
    """Try somebody's reward head on random beliefs ``[2 3 width]``, on a copy; random numbers do not change.

    Raises:
        UsageError: if ``forward``, ``decode`` or ``loss`` raises an error or returns another shape than is wanted.
    """
    head, wanted = copy.deepcopy(head), {"forward": "[2 3 *]", "decode": "[2 3 1]", "loss": "[]"}

    def run(method: str, *inputs: Tensor) -> Tensor:
        what = f"the reward head {type(head).__name__}: {method}"
        try:
            found = head(*inputs) if method == "forward" else getattr(head, method)(*inputs)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{what} raised {describe_error(error)}") from error
        shape = tuple(found.shape) if isinstance(found, Tensor) and found.is_floating_point() else None
        if not {"forward": (shape or ())[:2] == (2, 3), "decode": shape == (2, 3, 1), "loss": shape == ()}[method]:
            got = type(found).__name__ if shape is None else list(shape)
            raise UsageError(f"{what} returned {got}, where floats {wanted[method]} are wanted")
        return found

    with kept_generators():
        predicted = run("forward", torch.randn(2, 3, width))
        run("decode", predicted)
        if not run("loss", predicted, torch.randn(2, 3, 1)).requires_grad:
            raise UsageError(f"the reward head {type(head).__name__}: its loss depends on no parameter")
