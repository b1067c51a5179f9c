"""Measurements take as long as they may; never how fast: that is for BENCHMARKS.md."""

from __future__ import annotations

import itertools
import time

import torch
from torch import nn

from torchrl_glam.tools.benchmarks.timing import count_flops, measure


def test_a_long_call_is_measured_three_times():
    measured = measure(lambda: time.sleep(0.05), seconds=0.01, first=0.05)
    assert len(measured.times) == 3
    assert measured.median >= 0.05


def test_a_long_call_of_unknown_length_is_measured_three_times_too():
    assert len(measure(lambda: time.sleep(0.05), seconds=0.01).times) >= 3


def test_short_calls_are_repeated_until_the_time_is_over():
    pauses = itertools.cycle([0.06, 0.18])  # never closer than a tenth, and each too long to be timed in a block of ten
    began = time.monotonic()
    measured = measure(lambda: time.sleep(next(pauses)), seconds=1.2)
    assert len(measured.times) > 4
    assert 1.2 < time.monotonic() - began < 20


def test_the_time_is_that_of_one_of_several():
    whole = measure(lambda: time.sleep(0.02), seconds=0.1)
    part = measure(lambda: time.sleep(0.02), seconds=0.1, count=4)
    assert whole.median >= 0.02
    assert 0.005 <= part.median < whole.median


def test_flops_are_those_of_matrix_products_and_convolutions_forward_and_backward():
    linear, convolution = nn.Linear(3, 5), nn.Conv2d(2, 4, 3, padding=1)
    x = torch.zeros(7, 3, requires_grad=True)
    assert count_flops(lambda: linear(x).relu()) == 2 * 7 * 3 * 5
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 7 * 3 * 5
    image = torch.zeros(1, 2, 6, 6)
    assert count_flops(lambda: convolution(image)) == 2 * 6 * 6 * 4 * 2 * 9
