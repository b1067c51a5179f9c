"""Mamba as the memory of a TorchRL policy, called as TorchRL's ``LSTMModule`` and ``GRUModule`` are.

``b`` batch, ``t`` time, ``i`` input width, ``d`` hidden width, ``l`` layers, ``inner`` width inside a Mamba block.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import unravel_key, unravel_key_list
from torch import Tensor, nn
from torchrl.data import Unbounded
from torchrl.envs import TensorDictPrimer
from torchrl.modules import recurrent_mode

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import nest_memories
from torchrl_glam.modules.dynamics.layers import MambaStack

STATES = ("recurrent_state_conv", "recurrent_state_ssm")


class MambaModule(TensorDictModuleBase):
    """Mamba layers with TorchRL's recurrent keys: Linear, ``num_layers`` times ``x + Mamba(Norm(x))``, Norm.

    It takes the place of a ``torchrl.modules.LSTMModule``: the same arguments, keys and modes.

    * Outside recurrent mode it runs one step, for any batch shape. The state travels in the tensordict, and is taken as
      empty where ``is_init`` is true.
    * In recurrent mode (``set_recurrent_mode(True)``, which TorchRL's losses set) the last batch dimension is time. A
      row begins with the state that is recorded at its first step, if there is one. The memory is emptied wherever
      ``is_init`` is true, also inside a row. Only the state after the last step is written; the others are 0.

    Mamba computes no gradient through the recorded state, nor does ``torch.vmap`` know its scan. Give ``GAE``
    ``shifted=True`` or ``deactivate_vmap=True`` if its value network holds this module. The first is twice as fast.

    Args:
        input_size: i.
        hidden_size: d, the width of layers and output.
        num_layers: l.
        d_state, d_conv, expand, backend: see :class:`~torchrl_glam.modules.MambaBlock`. One environment's state holds
            ``num_layers * expand * hidden_size * (d_state + d_conv - 1)`` numbers.
        in_key: the input. The states are then called ``recurrent_state_conv`` and ``recurrent_state_ssm``.
        in_keys: instead of ``in_key``: input, convolution state, scan state, and maybe the key of ``is_init``.
        out_key: the output; the states are written under ``"next"``.
        out_keys: instead of ``out_key``: output, convolution state, scan state.
        device: of the parameters.
        default_recurrent_mode: the mode where no ``set_recurrent_mode`` says another; False by default.

    Raises:
        UsageError: if the keys are missing, given twice or of a wrong number, or ``num_layers`` is below 1.

    Examples:
        >>> from tensordict.nn import TensorDictModule, TensorDictSequential
        >>> from torchrl.envs import GymEnv, InitTracker, TransformedEnv
        >>> memory = MambaModule(3, 16, in_key="observation", out_key="features")
        >>> head = TensorDictModule(nn.Linear(16, 1), in_keys=["features"], out_keys=["action"])
        >>> env = TransformedEnv(GymEnv("Pendulum-v1"), InitTracker())
        >>> env = env.append_transform(memory.make_tensordict_primer())
        >>> steps = env.rollout(5, TensorDictSequential(memory, head))
        >>> steps["features"].shape, steps["next", "recurrent_state_ssm"].shape
        (torch.Size([5, 16]), torch.Size([5, 1, 32, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
        in_key: NestedKey | None = None,
        in_keys: list[NestedKey] | None = None,
        out_key: NestedKey | None = None,
        out_keys: list[NestedKey] | None = None,
        device: torch.device | str | None = None,
        default_recurrent_mode: bool | None = None,
    ) -> None:
        super().__init__()
        self.in_keys = _keys("in", in_key, in_keys, list(STATES))
        self.out_keys = _keys("out", out_key, out_keys, [("next", state) for state in STATES])
        if len(self.in_keys) == 3:
            self.in_keys = [*self.in_keys, "is_init"]
        if len(self.in_keys) != 4 or len(self.out_keys) != 3:
            raise UsageError(
                f"in_keys={in_keys}, out_keys={out_keys}: give an input (or output) and two states each, "
                "after the former maybe the key of is_init"
            )
        mamba = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "backend": backend}
        self.embedding = nn.Linear(input_size, hidden_size)
        self.layers = MambaStack(hidden_size, num_layers, post_norm=False, **mamba)
        self.norm = nn.LayerNorm(hidden_size)
        self.default_recurrent_mode = bool(default_recurrent_mode)
        self.to(device)

    @property
    def recurrent_mode(self) -> bool:
        """The mode that the next call runs in."""
        mode = recurrent_mode()
        return self.default_recurrent_mode if mode is None else bool(mode)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """Make the transform that adds an empty state to the environment's reset.

        Raises:
            UsageError: if a state is not written where the next step reads it.
        """
        if self.out_keys[1:] != [unravel_key(("next", key)) for key in self.in_keys[1:3]]:
            raise UsageError(
                f"in_keys={self.in_keys}, out_keys={self.out_keys}: an environment carries a state from one step to "
                'the next if its output key is ("next", input key)'
            )
        empty = self._stack(self.layers.initial_memory(1))
        specs = {
            key: Unbounded(state.shape[1:], dtype=state.dtype)
            for key, state in zip(self.in_keys[1:3], empty, strict=True)
        }
        return TensorDictPrimer(specs, default_value=0.0, expand_specs=True)

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the output and the states after it.

        Raises:
            UsageError: without ``is_init``, or in recurrent mode without a batch dimension.
        """
        if self.recurrent_mode and not tensordict.ndim:
            raise UsageError("recurrent mode: the last batch dimension is time, and this tensordict has none")
        if tensordict.get(self.in_keys[3], None) is None:
            raise UsageError(f"there is no {self.in_keys[3]!r}: append torchrl.envs.InitTracker() to the environment")
        run = self._sequence if self.recurrent_mode else self._step
        inputs = tensordict.select(*self.in_keys, strict=False)
        for key, value in zip(self.out_keys, run(inputs), strict=True):
            tensordict.set(key, value)
        return tensordict

    def _step(self, inputs: TensorDictBase) -> list[Tensor]:
        rows = inputs.reshape(-1)
        kept = ~rows[self.in_keys[3]].reshape(-1)
        memory = self._memory(rows).apply(lambda state: state * kept.view(-1, *[1] * (state.ndim - 1)))
        features, memory = self.layers.step(self.embedding(rows[self.in_keys[0]]), memory)
        results = [self.norm(features), *self._stack(memory)]
        return [result.reshape(*inputs.shape, *result.shape[1:]) for result in results]

    def _sequence(self, inputs: TensorDictBase) -> list[Tensor]:
        rows = inputs.reshape(-1, inputs.shape[-1])
        is_init = rows[self.in_keys[3]].reshape(rows.shape)
        features, memory = self.layers(self.embedding(rows[self.in_keys[0]]), self._memory(rows[:, 0]), is_init)
        results = [self.norm(features), *(_at_the_end(state, rows.shape[1]) for state in self._stack(memory))]
        return [result.reshape(*inputs.shape, *result.shape[2:]) for result in results]

    def _memory(self, rows: TensorDictBase) -> TensorDict:
        """Return the layers' memory that is recorded in a tensordict ``[b]``, or an empty one."""
        conv, ssm = (rows.get(key, None) for key in self.in_keys[1:3])
        if conv is None or ssm is None:
            return self.layers.initial_memory(len(rows))
        pairs = zip(conv.unbind(1), ssm.unbind(1), strict=True)
        memories = (TensorDict({"conv": conv, "ssm": ssm}, rows.shape, device=conv.device) for conv, ssm in pairs)
        return nest_memories({str(index): memory for index, memory in enumerate(memories)})

    def _stack(self, memory: TensorDictBase) -> tuple[Float[Tensor, "b l k inner"], Float[Tensor, "b l inner n"]]:
        layers = range(len(self.layers))
        conv, ssm = ([memory[str(index), name] for index in layers] for name in ("conv", "ssm"))
        return torch.stack(conv, 1), torch.stack(ssm, 1)


def _keys(side: str, key: NestedKey | None, keys: list[NestedKey] | None, states: list[NestedKey]) -> list[NestedKey]:
    if (key is None) == (keys is None):
        raise UsageError(f"{side}_key={key}, {side}_keys={keys}: give one of them")
    return list(unravel_key_list([key, *states] if keys is None else list(keys)))


def _at_the_end(state: Float[Tensor, "b l p q"], length: int) -> Float[Tensor, "b t l p q"]:
    """Return the state at the last of ``length`` steps, and 0 at the others, as TorchRL's recurrent modules do."""
    states = state.new_zeros(len(state), length, *state.shape[1:])
    states[:, -1] = state
    return states
