"""The DQN replay dataset's files of one game as a Minari dataset, or a share of its episodes.

    gsutil -m cp -R "gs://atari-replay-datasets/dqn/Pong/1/replay_logs" pong        # the user's own download
    python examples/import_dqn_replay.py folder=pong/replay_logs env_name=ALE/Pong-v5 fraction=0.01
    python examples/mambadm_offline.py dataset=pong/dqn-replay-v0 preset=atari model.context=50

Needs the extra `[minari]`. Some checkpoints are enough.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from pathlib import Path

from torchrl_glam.command.options import small_command
from torchrl_glam.data.minari_files import datasets_root
from torchrl_glam.envs.scores import game_name
from torchrl_glam.offline.dqn_replay import import_dqn_replay


@dataclass
class ImportOptions:
    """The files, and the dataset that is made of them."""

    folder: str  # replay_logs of a game's run
    env_name: str  # the game, as ALE/Pong-v5
    fraction: float = 1.0  # of the episodes, spread evenly; 0.01 in the Decision Transformer
    dataset_id: str | None = None  # (namespace/)name-v0; null: GAME/dqn-replay-v0
    root: str | None = None  # folder of datasets; null: MINARI_DATASETS_PATH or Minari's own


@small_command(ImportOptions)
def main(options: ImportOptions) -> None:
    """Write the DQN replay's files of one game, or a share of their episodes, to a Minari dataset."""
    root = datasets_root(Path(options.root) if options.root else None)
    game = (game_name(options.env_name) or "game").lower()
    dataset_id = options.dataset_id or f"{game}/dqn-replay-v0"
    episodes = import_dqn_replay(
        Path(options.folder),
        options.env_name,
        dataset_id,
        root=root,
        fraction=options.fraction,
        progress=True,
    )
    print(f"dataset {dataset_id} in {root}, episodes: {episodes}")


if __name__ == "__main__":
    main()
