"""Play with the keyboard in the real environment of a run, and inside its world model's imagination.

    python examples/play.py run_dir=runs/...

serves a page for the browser of this machine; Ctrl-C ends it. Play for real, then press T: the game continues as the
world model imagines it.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass

from torchrl_glam.command.cli import resolve_device
from torchrl_glam.command.options import small_command
from torchrl_glam.config import Device
from torchrl_glam.runs.loading import load_run
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import check_aiohttp, play
from torchrl_glam.tools.player.session import make_session


@dataclass
class PlayOptions:
    """Options of examples/play.py."""

    run_dir: str  # folder of a run, or of an export
    weights: str = "newest"  # newest, or best: the checkpoint with the highest return in training
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    device: Device = Device.cpu
    port: int = 8000  # of this machine only; 0 takes a free one
    seed: int = 0  # of the environment and of all samples


@small_command(PlayOptions)
def main(options: PlayOptions) -> None:
    """Play in a run's real environment and in its imagination, in the browser."""
    check_aiohttp()
    device = resolve_device(options.device)
    run = load_run(options.run_dir, weights=options.weights, device=device, trust=options.trust)
    session = make_session(run, options.seed)

    def announce(address: str) -> None:
        print(f"play {run.config.env.name} at {address} (Ctrl-C ends)", flush=True)

    play(Player(session), options.port, announce)
    session.close()


if __name__ == "__main__":
    main()
