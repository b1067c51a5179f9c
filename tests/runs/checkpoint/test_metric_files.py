"""Metrics are as long as at the checkpoint again."""

from __future__ import annotations

from torchrl_glam.runs.checkpoint.metric_files import cut_back, metric_lengths


def test_rows_written_later_go_and_earlier_ones_stay(tmp_path):
    loss, gone, other = tmp_path / "policy/loss.csv", tmp_path / "policy/late.csv", tmp_path / "notes.txt"
    loss.parent.mkdir()
    loss.write_text("1,0.5\n2,0.25\n")
    lengths = metric_lengths(tmp_path)
    loss.write_text(loss.read_text() + "3,0.1\n4,0.")  # killed in mid-row
    gone.write_text("3,1.0\n")
    other.write_text("mine")
    cut_back(tmp_path, lengths)
    assert loss.read_text() == "1,0.5\n2,0.25\n"
    assert not gone.exists()
    assert other.read_text() == "mine"
    cut_back(tmp_path, {})  # a run that starts again
    assert not loss.exists()
    cut_back(tmp_path / "nowhere", {})
