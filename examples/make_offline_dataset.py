"""A dataset for offline learning, made here: a teacher learns a Gymnasium task, and its steps are recorded.

    python examples/make_offline_dataset.py env.name=Hopper-v5 quality=medium
    python examples/make_offline_dataset.py env.name=CartPole-v1 quality=replay

Needs the extra `[offline]`. The teacher's folder serves every quality: a second command trains nothing.
Options are `key=value`; torchrl_glam/offline/teachers/config.py lists all of them.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from pathlib import Path

from torchrl_glam.command.cli import hydra_command
from torchrl_glam.data.minari_files import check_new_dataset, datasets_root
from torchrl_glam.offline.teachers import (
    default_dataset_id,
    read_teacher,
    record_dataset,
    resolve_options,
    train_teacher,
)
from torchrl_glam.offline.teachers.config import NewDatasetConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "offline"


@hydra_command(CONFIGS, "make_offline_dataset", NewDatasetConfig, resolve_options)
def main(config: NewDatasetConfig) -> None:
    """Train a teacher, unless its folder is there, and write the dataset that the options name."""
    task = config.env.name
    root = datasets_root(Path(config.root) if config.root else None)
    dataset_id = config.dataset_id or default_dataset_id(task, config.quality, config.until)
    check_new_dataset(dataset_id, root)

    # The teacher: it is trained once, for datasets of every quality.
    folder = Path(config.teacher_dir or Path("runs", "teachers", f"{task.replace('/', '-')}-seed{config.seed}"))
    teacher = read_teacher(folder, config) if folder.exists() else None
    kind = f"{config.teacher.value} teacher, {config.total_frames} steps"
    print(f"{task}: {dataset_id} | {kind}, {'from' if teacher else 'training into'} {folder}", flush=True)
    teacher = teacher or train_teacher(config, folder)

    # The dataset.
    dataset = record_dataset(teacher, config, dataset_id, root)
    references = f"random {teacher.random_score:.1f}, expert {teacher.expert_score:.1f}"
    print(f"dataset {dataset_id} in {root}: {dataset} ({references})")


if __name__ == "__main__":
    main()
