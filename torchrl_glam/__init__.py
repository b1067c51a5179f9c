"""GLAM, a Mamba-based world model, as TorchRL parts.

The algorithm: ``modules`` (world model, sequence backbones, Mamba, policy), ``objectives`` (losses), ``envs`` (Atari,
the imagined environment), ``data`` (replay) and ``training`` (the updates). Each part works without the rest.
``config`` and ``factory`` make them from options, ``runs`` keeps what a run leaves on disk, ``command`` has the command
lines, ``offline`` is MambaDM, and ``tools`` read runs. Importing this module imports none of them.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
