"""Find out what a run has learned and what not, before tuning it: reward, termination, frames, value, policy.

    python examples/diagnose.py run_dir=runs/pong
    python examples/diagnose.py run_dir=runs/pong fresh=2000 plans=100 seed=1

The predictions of its networks are compared with the newest records of the replay, which it was trained on. With
`fresh` they are also compared with new steps played by its policy, which shows what was only learned by heart. With
`plans` the emulator and the world model are asked what the same plans would earn.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from pathlib import Path

from torchrl_glam import factory, presentation
from torchrl_glam.command.cli import resolve_device
from torchrl_glam.command.options import small_command
from torchrl_glam.config import Device
from torchrl_glam.errors import check_least, make_writable
from torchrl_glam.runs.files import write_file
from torchrl_glam.runs.loading import load_run
from torchrl_glam.tools.diagnosis.diagnose import context_length, diagnose
from torchrl_glam.tools.diagnosis.picture import draw
from torchrl_glam.tools.diagnosis.plans import PlannedMoments
from torchrl_glam.tools.diagnosis.steps import play_steps, read_steps
from torchrl_glam.tools.diagnosis.writing import describe_state, to_json, to_markdown, to_screen


@dataclass
class DiagnoseOptions:
    """Options of examples/diagnose.py."""

    run_dir: str  # folder of a run, finished or not
    weights: str = "newest"  # newest, or best: the checkpoint with the highest return in training
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    records: int = 4096  # newest real steps of the replay; 12 kB of memory each
    fresh: int = 0  # new steps, played by the policy
    plans: int = 0  # moments of these at which plans are played and imagined; of an ALE game, half a second each
    context: int | None = None  # real steps before a prediction; null: as in training
    seed: int = 0  # of latents, and of new steps
    device: Device = Device.auto
    out: str | None = None  # file names before .md, .json and .png; null: run_dir/diagnosis-FRAME-seedSEED


@small_command(DiagnoseOptions)
def main(options: DiagnoseOptions) -> None:
    """Find out what a run has learned and what not: reward, termination, frames, value, policy."""
    check_least(options, {"records": 1, "fresh": 0, "plans": 0, "context": 1, "seed": 0})
    device = resolve_device(options.device)
    run = load_run(options.run_dir, weights=options.weights, device=device, trust=options.trust)
    name = options.out or str(run.folder / f"diagnosis-{run.frame}-seed{options.seed}")
    make_writable("out", Path(f"{name}.md"))

    factory.set_seeds(options.seed)
    context = options.context or context_length(run.config)
    found = {"replay": diagnose(run, read_steps(run, options.records), context)}
    if options.fresh or options.plans:
        planned = PlannedMoments(options.plans, options.fresh, run.config.env.name) if options.plans else None
        watch = None if planned is None else planned.watch
        steps = play_steps(run, options.fresh, options.seed, watch=watch, progress=True)
        found["fresh"] = diagnose(run, steps, context, planned)

    state = describe_state(run.folder, run.frame, run.config.total_frames)
    title = {"env": run.config.env.name, "frame": run.frame, "weights": options.weights, "seed": options.seed}
    title |= {"state": state}
    write_file(Path(f"{name}.md"), to_markdown(title, found).encode())
    write_file(Path(f"{name}.json"), to_json(title, found).encode())
    if presentation.has_matplotlib:
        draw(Path(f"{name}.png"), f"{title['env']}: {state}", found)
    else:
        print('nothing is drawn, matplotlib is missing: pip install "torchrl_glam[report]"')
    print(f"tables: {name}.md\n\n{to_screen(title, found)}", end="")


if __name__ == "__main__":
    main()
