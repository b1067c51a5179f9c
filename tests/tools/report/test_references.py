"""Random and human scores of two sources."""

from __future__ import annotations

from torchrl_glam.tools.report.references import References, load_references


def test_unrounded_references_round_to_the_tables():
    rounded, unrounded = load_references(References.table1), load_references(References.unrounded)
    assert list(unrounded.index) == list(rounded.index)
    apart = (rounded - unrounded).abs() > 0.5
    assert rounded[apart].stack().to_dict() == {("KungFuMaster", "random"): 256.0}, "the only one"
    assert unrounded.loc["KungFuMaster", "random"] == 258.5
