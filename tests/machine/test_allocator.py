"""Freed memory that is kept: fewer page faults, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from torchrl_glam.machine import allocator

PROGRAM = """
import resource, sys
import torch
from torchrl_glam.machine.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
for number in range(20):
    if number == 10:  # glibc 2.36 takes new memory 8 times first: a thread keeps 7 of the splinters of an aligned block
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 * 2**20, dtype=torch.uint8)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(choice):
    """Return the result of ``keep_freed_memory``, and the page faults of 64 MB allocated and freed ten times."""
    process = subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, check=True)
    kept, faults = process.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again():
    (kept, few), (_, many) = page_faults("keep"), page_faults("plain")
    assert kept
    assert many > 10 * 16, "64 MB are 16 384 pages, or 32 huge ones"
    assert few < many / 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.keep_freed_memory()
