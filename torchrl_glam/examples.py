"""The loops of the folder ``examples``, to import: ``from torchrl_glam.examples.glam_atari import train``.

A module with a ``__path__`` is a package, so that they have these names in a checkout too, whose folder lies elsewhere.
"""

from __future__ import annotations

from torchrl_glam.machine.folders import EXAMPLES

__path__ = [str(EXAMPLES)]
