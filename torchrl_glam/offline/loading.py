"""The network of a run on a dataset, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torchrl.data import TensorSpec

from torchrl_glam.errors import DamagedError, UsageError, describe_error
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.offline.base import DecisionActor
from torchrl_glam.offline.config import DecisionMemory, OfflineConfig
from torchrl_glam.offline.factory import check_offline_config, make_decision_network, make_decision_policy
from torchrl_glam.offline.policy import DecisionPolicy
from torchrl_glam.offline.tokens import LEAST_SIDE, count_features
from torchrl_glam.runs.checkpoint import Weights, load_networks
from torchrl_glam.runs.checkpoint.checkpoints import find_weights
from torchrl_glam.runs.checkpoint.weights_file import check_shapes
from torchrl_glam.runs.loading import read_options

SIDES = (64, 84, *range(LEAST_SIDE, 513))  # of frames; GLAM's and DQN's first, for several give the same features
LINEARS = ("observation.linear.weight", "encoder.linear.weight")


@dataclass
class LoadedDecisions:
    """The network of a run, in eval mode, and its options.

    Args:
        config: the run's options.
        update: the update that its weights are of.
        action_spec: the environment's.
        network: over windows.
        policy: acts in the environment with the memory of ``config.evaluation``.
    """

    config: OfflineConfig
    update: int
    action_spec: TensorSpec
    network: DecisionActor
    policy: DecisionPolicy


def load_decisions(
    folder: str | Path, *, memory: str | None = None, device: str = "cpu", trust: bool = False
) -> LoadedDecisions:
    """Load the network of a run of ``glam offline train``.

    Args:
        folder: the run's.
        memory: ``window`` or ``carried``; ``None``: the run's.
        device: the network's.
        trust: import the environment that the run names, or its dataset, which may run any code.

    Raises:
        UsageError: if the folder holds no such run, no weights or damaged ones, the memory does not suit the model, or
            the run names an environment of others than Gymnasium and ale-py.
    """
    folder = Path(folder)
    config = read_options(folder, OfflineConfig, other_command("offline train"), check_offline_config, trust=trust)
    config.trust = trust  # not whoever wrote the file says so
    if memory is not None:
        if memory not in (choices := [choice.value for choice in DecisionMemory]):
            raise UsageError(f"memory={memory}: choose one of {', '.join(choices)}")
        config.evaluation.memory = DecisionMemory(memory)
    try:
        weights = find_weights(folder, "newest")
        spec = weights.action_spec
        shape = _observation_shape(weights)
        with torch.device("meta"):
            check_shapes("actor", make_decision_network(config, shape, spec), weights)
        network = make_decision_network(config, shape, spec)
        load_networks({"actor": network}, weights)
    except DamagedError as error:
        raise UsageError(f"{folder}: {error}; give another run_dir") from error
    except UsageError:
        raise
    except (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{folder} cannot be loaded ({describe_error(error)}): give another run_dir") from error
    network = network.to(torch.device(device)).eval()
    return LoadedDecisions(config, weights.frame, spec, network, make_decision_policy(config, network, spec))


def _observation_shape(weights: Weights) -> torch.Size:
    """Return the shape of the vectors whose statistics are among the weights, or else of (stacked) square frames."""
    entries = weights.networks.get("actor", {})
    means = [entry.shape for name, entry in entries.items() if name.endswith("mean")]
    if means:
        return means[0]
    channels = next(entry.shape[1] for name, entry in entries.items() if name.endswith("convolutions.0.weight"))
    features = next(entry.shape[1] for name, entry in entries.items() if name.endswith(LINEARS))
    side = next(side for side in SIDES if count_features(side, side) == features)
    return torch.Size([side, side, channels])
