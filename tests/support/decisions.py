"""Small actors and windows of steps, for the tests of actors."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import nn

from tests.support.backbones import prepare
from torchrl_glam.offline import BehaviourCloningActor, DecisionTransformerActor, DMambaActor, MambaDMActor

OBSERVATION, ACTION, CONTEXT = 5, 3, 6

MAMBA = {"width": 8, "num_layers": 2, "d_state": 3}
ACTORS = {
    "mambadm": lambda **options: MambaDMActor((OBSERVATION,), ACTION, **{**MAMBA, "local_length": 4, **options}),
    "dmamba": lambda **options: DMambaActor((OBSERVATION,), ACTION, **{**MAMBA, **options}),
    "dt": lambda **options: DecisionTransformerActor(
        (OBSERVATION,), ACTION, **{"width": 8, "num_layers": 2, "num_heads": 2, "context": CONTEXT, **options}
    ),
}


def make_network(name, dtype=torch.float64, **options):
    """One of :data:`ACTORS`, or behaviour cloning, in eval mode; every parameter and statistic matters."""
    torch.manual_seed(0)
    network = BehaviourCloningActor((OBSERVATION,), ACTION, width=8, **options) if name == "bc" else None
    network = prepare(network or ACTORS[name](**options), dtype)
    network.set_statistics(torch.linspace(-1, 1, OBSERVATION), torch.linspace(0.5, 2, OBSERVATION), 10.0)
    return network


def make_windows(*shape, dtype=torch.float64, observation=OBSERVATION, action=ACTION, discrete=False, seed=1):
    """Random windows ``[*shape]``, the last of which is time."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size):
        return torch.randn(*shape, size, generator=generator, dtype=torch.float64).to(dtype)

    actions = draw(action).tanh()
    if discrete:
        actions = nn.functional.one_hot(actions.argmax(-1), action).to(dtype)
    start = torch.randint(100, (*shape[:-1], 1), generator=generator)
    return TensorDict(
        {
            "observation": draw(observation),
            "action": actions,
            "return_to_go": 10 * draw(1),
            "time_step": (start + torch.arange(shape[-1])).unsqueeze(-1),
        },
        shape,
    )


def run(network, windows):
    """``forward`` over windows."""
    return network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))


def unroll(network, windows, memory=None):
    """Outputs ``[b t x]`` of ``observe`` and ``remember`` in turns, and the memory after."""
    memory = network.initial_memory(len(windows)) if memory is None else memory
    outputs = []
    for step in windows.unbind(1):
        output, memory = network.observe(step["observation"], step["return_to_go"], step["time_step"], memory)
        memory = network.remember(step["action"], step["time_step"], memory)
        outputs.append(output)
    return torch.stack(outputs, 1), memory
