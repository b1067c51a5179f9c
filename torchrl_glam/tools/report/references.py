"""Random and human scores, from which human-normalised scores are computed."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from torchrl_glam.envs.scores import read_data

if TYPE_CHECKING:
    import pandas as pd


class References(Enum):
    """Sources: the file, the room of the package that holds it, and a description."""

    table1 = ("atari100k_table1.csv", "envs", "GLAM's Table 1, rounded to points like the published scores beside them")
    unrounded = (
        *("references_unrounded.csv", "tools.report"),
        "those of the authors of IRIS, which are not rounded, unlike the published scores",
    )


def load_references(kind: References) -> pd.DataFrame:
    """Return the columns ``random`` and ``human`` of the 26 games, in game points.

    Examples:
        >>> load_references(References.unrounded).loc["Pong"].to_dict()
        {'random': -20.7, 'human': 14.6}
    """
    import pandas as pd  # of the extra [report]

    file, folder, _ = kind.value
    return pd.DataFrame(read_data(file, folder)).set_index("game")[["random", "human"]].astype(float)


def normalise(scores: Any, references: Any) -> Any:
    """Return ``(score - random) / (human - random)``, a fraction.

    Args:
        scores: in game points; a number, or a column whose index is that of ``references``.
        references: an object with ``random`` and ``human``: a row of :func:`load_references`, or a table.

    Examples:
        >>> float(normalise(15.0, load_references(References.table1).loc["Pong"]))
        1.0
    """
    return (scores - references.random) / (references.human - references.random)
