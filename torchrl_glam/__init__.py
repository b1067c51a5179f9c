"""GLAM, a Mamba-based world model, as TorchRL parts.

The folders carry TorchRL's nouns, and each part works without the rest: ``envs`` (Atari and the imagined environment),
``data`` (replay of root pixels), ``modules`` (world model, sequence backbones, Mamba, policy), ``objectives`` (losses)
and ``report`` (published scores). ``config``, ``factory`` and ``training`` put them together. Importing this module
tells Hydra the parts' names (``registry``) and imports neither them nor torch.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
