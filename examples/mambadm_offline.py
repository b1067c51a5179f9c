"""MambaDM, or a model that it is compared with, on a dataset: sample windows, update; ask for returns at the end.

    python examples/make_offline_dataset.py env.name=CartPole-v1 quality=replay
    python examples/mambadm_offline.py dataset=cartpole/replay-v0

Options are `key=value`; torchrl_glam/offline/config.py lists all of them, and `model.*` are the parameters of the
model's class in torchrl_glam/offline/actor.py.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from pathlib import Path

from torchrl_glam.command.cli import hydra_command, resolve_device
from torchrl_glam.factory import set_seeds
from torchrl_glam.offline import SameData, draw_windows, make_windows
from torchrl_glam.offline.config import OfflineConfig
from torchrl_glam.offline.factory import (
    check_offline_config,
    make_dataset_network,
    make_decision_policy,
    make_decision_update,
    make_evaluation,
    read_dataset,
    target_fractions,
)
from torchrl_glam.offline.run import OfflineRun
from torchrl_glam.runs.checkpoint import TrainedNetworks

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "offline"


@hydra_command(CONFIGS, "mambadm_offline", OfflineConfig, check_offline_config)
def main(config: OfflineConfig) -> None:
    """Train one model on the dataset that the options name, and evaluate it."""
    set_seeds(config.seed)
    device = resolve_device(config.device)

    # The data, the model and its update.
    dataset = read_dataset(config)
    config.env.name = dataset.env_name
    windows = make_windows(dataset, config.batch_size, config.model.context)
    network = make_dataset_network(config, dataset, device)
    update = make_decision_update(config, network, dataset.action_spec)

    # The evaluation: its targets, and the policy.
    fractions = target_fractions(config)
    policy = make_decision_policy(config, network, dataset.action_spec)
    evaluate = make_evaluation(config, dataset, policy)

    # The run's folder: a run that is in it is resumed, with the same random numbers.
    run = OfflineRun(config, dataset)
    run.announce(network, device)
    run.resume(TrainedNetworks({"actor": network}, dataset.action_spec), None, data=SameData(dataset), update=update)

    with run:
        for (step,), batch in run.track(draw_windows(windows, config.total_updates - run.progress.frame)):
            run.progress.metrics["update"] = update(batch.to(device))
            if step % config.log_every == 0:
                run.log_updates(step)
            if config.evaluation.every and step % config.evaluation.every == 0:
                run.log_evaluation(step, *evaluate([max(fractions)]))
        run.finish(evaluate(fractions, progress=True))


if __name__ == "__main__":
    main()
