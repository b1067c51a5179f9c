"""A buffer of the last entries against a Python list."""

from __future__ import annotations

import torch

from torchrl_glam.modules.context import append_entry, newest_entry

SLOTS = 3


def test_the_buffer_holds_the_last_entries_in_order():
    buffer, length, appended = torch.zeros(SLOTS, 2), torch.tensor([0]), []
    for number in range(1, 6):
        entry = torch.tensor([number, -number])
        before = buffer.clone()
        following = append_entry(buffer, entry, length)
        assert torch.equal(buffer, before), "the arguments are not written to"
        appended.append(entry.tolist())
        buffer, length = following, (length + 1).clamp_max(SLOTS)
        assert buffer[: length.item()].tolist() == appended[-SLOTS:]
        assert not buffer[length.item() :].any()
        assert newest_entry(buffer, length).tolist() == appended[-1]


def test_elements_of_a_batch_have_lengths_of_their_own():
    buffers = torch.arange(1.0, 7.0).reshape(2, SLOTS, 1)
    length = torch.tensor([[1], [SLOTS]])
    new = append_entry(buffers, torch.full((2, 1), 9.0), length)
    assert new.squeeze(-1).tolist() == [[1, 9, 3], [5, 6, 9]]
    assert newest_entry(buffers, length).flatten().tolist() == [1, 6]


def test_the_newest_of_no_entries_is_the_first_slot():
    assert newest_entry(torch.tensor([[7.0], [8.0]]), torch.tensor([0])).tolist() == [7.0]
