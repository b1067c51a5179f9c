"""The policy for environments: the actor, and its memory of the episode so far.

``b`` batch, ``a`` action size, ``x`` width of the network's output.
"""

from __future__ import annotations

from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import TensorDictPrimer
from torchrl.envs.utils import make_composite_from_td
from torchrl.modules import ProbabilisticActor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.context import append_entry, newest_entry
from torchrl_glam.offline.base import DecisionActor

MEMORIES = ("window", "carried")


class DecisionPolicy(TensorDictModuleBase):
    """Policy for environments: the actor, and its memory of the episode so far.

    Reads ``observation``, ``return_to_go`` (of ``TargetReturn``), ``step_count`` (of ``StepCounter``) and its own
    ``memory``, which is one of two:

    * ``window``: the last ``context`` steps, over which the network runs again at every step;
    * ``carried``: the network's own, updated at every step, at a cost that does not grow with the past.

    While an episode is no longer than ``context``, both choose the same actions. Later the window has lost the steps
    before it, and the carried memory has not; its sequences are then longer than those of the training.

    The memory is part of the tensordict, never of the module. So any number of environments can be batched, and an
    episode's start clears it: add :meth:`make_tensordict_primer` to the environment, or let a collector do so
    (``auto_register_policy_transforms=True``).

    Acting never tracks gradients. Keep the network in eval mode (dropout). Under
    ``set_exploration_type(ExplorationType.DETERMINISTIC)`` actions are greedy.

    Args:
        actor: of :func:`make_decision_actor`.
        context: steps of the window; ``None``: the network's own.
        memory: ``window`` or ``carried``.

    Raises:
        UsageError: if ``memory`` is neither, ``context`` is below 1 or more than the network takes, or the memory of a
            Transformer is to be ``carried``; in ``forward``, if there is no memory.

    Examples:
        >>> from torchrl.envs import Compose, DoubleToFloat, GymEnv, StepCounter, TargetReturn, TransformedEnv
        >>> from torchrl_glam.offline import DecisionPolicy, MambaDMActor, make_decision_actor
        >>> target = TargetReturn(200.0, mode="reduce", out_keys=["return_to_go"])
        >>> env = TransformedEnv(GymEnv("CartPole-v1"), Compose(DoubleToFloat(), target, StepCounter()))
        >>> network = MambaDMActor((4,), 2, width=16, num_layers=1).eval()
        >>> policy = DecisionPolicy(make_decision_actor(network, env.action_spec), memory="carried")
        >>> env = env.append_transform(policy.make_tensordict_primer())
        >>> env.rollout(3, policy)["return_to_go"].flatten()
        tensor([200., 199., 198.])
    """

    def __init__(self, actor: ProbabilisticActor, *, context: int | None = None, memory: str = "window") -> None:
        super().__init__()
        network = actor[0][0].module
        context = network.context if context is None else context
        if memory not in MEMORIES:
            raise UsageError(f"memory is {memory!r}: choose one of {', '.join(MEMORIES)}")
        most, name = network.max_context, type(network).__name__
        if memory == "carried" and most is not None:
            raise UsageError(f"memory is 'carried', and that of {name} is full after {most} steps: choose 'window'")
        if context < 1 or (most is not None and context > most):
            raise UsageError(f"context={context}: {name} takes a window of 1 to {most or 'any number of'} steps")
        self.actor = actor
        self.context = context
        self.memory = memory
        keys = [unravel_key(("memory", key)) for key in self._memory_spec().keys(True, True)]
        self.in_keys = ["observation", "return_to_go", "step_count", *keys]
        self.out_keys = ["action", *(("next", *key) for key in keys)]

    @property
    def network(self) -> DecisionActor:
        """The network that gives the parameters of the actions."""
        return cast(DecisionActor, self.actor[0][0].module)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """Make the transform that puts an empty memory into the environment's reset."""
        return TensorDictPrimer(Composite(memory=self._memory_spec()), default_value=0, expand_specs=True)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` and ``("next", "memory")`` for any batch shape.

        Raises:
            UsageError: without a memory, which the primer adds, or another of its keys.
        """
        memory = tensordict.get("memory", None)
        if memory is None:
            raise UsageError(
                "there is no memory: call env.append_transform(policy.make_tensordict_primer()), or give "
                "auto_register_policy_transforms=True to the collector"
            )
        missing = [key for key in self.in_keys[:3] if tensordict.get(key, None) is None]
        if missing:
            raise UsageError(
                f"there is no {', '.join(missing)}: append TargetReturn(target, out_keys=['return_to_go']) and "
                "StepCounter() to an environment with observation"
            )
        shape, network = tensordict.shape, self.network
        observation = tensordict.get("observation").reshape(-1, *network.observation_shape)
        return_to_go, time_step = (tensordict.get(key).reshape(-1, 1) for key in ("return_to_go", "step_count"))
        act = self._act_on_window if self.memory == "window" else self._act_on_memory
        action, memory = act(observation, return_to_go, time_step, memory.reshape(-1))
        tensordict.set("action", action.reshape(*shape, -1))
        tensordict.set(("next", "memory"), memory.reshape(shape))
        return tensordict

    def _act_on_memory(
        self, observation: Tensor, return_to_go: Tensor, time_step: Tensor, memory: TensorDictBase
    ) -> tuple[Tensor, TensorDictBase]:
        """Return actions ``[b a]`` and the network's memory after them."""
        output, memory = self.network.observe(observation, return_to_go, time_step, memory)
        action = self._choose(output)
        return action, self.network.remember(action, time_step, memory)

    def _act_on_window(
        self, observation: Tensor, return_to_go: Tensor, time_step: Tensor, memory: TensorDictBase
    ) -> tuple[Tensor, TensorDictBase]:
        """Return actions ``[b a]`` and the window with this step appended, the oldest dropped if it is full."""
        length = memory["length"]
        unknown = torch.zeros_like(memory["action"][:, 0])
        entries = {"observation": observation.flatten(1), "action": unknown}
        entries |= {"return_to_go": return_to_go, "time_step": time_step}
        window = {name: append_entry(memory[name], entry, length) for name, entry in entries.items()}
        length = (length + 1).clamp_max(self.context)
        observations = window["observation"].unflatten(-1, self.network.observation_shape)
        outputs = self.network(observations, window["action"], window["return_to_go"], window["time_step"])
        action = self._choose(newest_entry(outputs, length))
        window["action"] = append_entry(window["action"], action, length - 1)  # which was unknown
        return action, TensorDict({**window, "length": length}, batch_size=memory.batch_size, device=memory.device)

    def _choose(self, output: Tensor) -> Tensor:
        """Return the actor's action ``[b a]`` for an output ``[b x]`` of the network."""
        first, *others = self.actor[0]
        chosen = TensorDict({first.out_keys[0]: output}, batch_size=output.shape[:1])
        for module in (*others, self.actor[-1]):
            chosen = module(chosen)
        return chosen.get(self.actor[-1].out_keys[0])

    def _memory_spec(self) -> Composite:
        """Return the memory's spec for one environment."""
        network = self.network
        if self.memory == "carried":
            memory = network.initial_memory(1)
            if any(entry.any() for entry in memory.values(True, True)):
                raise UsageError("initial_memory has entries other than 0: a policy's memory must begin with zeros")
            return make_composite_from_td(memory[0], unsqueeze_null_shapes=False)
        dtype = next(network.parameters()).dtype
        is_pixels = len(network.observation_shape) == 3
        shape = (self.context, network.observation_shape.numel())
        return Composite(
            observation=Unbounded(shape, dtype=torch.uint8 if is_pixels else dtype),
            action=Unbounded((self.context, network.action_size), dtype=dtype),
            return_to_go=Unbounded((self.context, 1), dtype=dtype),
            time_step=Unbounded((self.context, 1), dtype=torch.long),
            length=Unbounded((1,), dtype=torch.long),
        )
