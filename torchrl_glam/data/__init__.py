"""Real experience."""

from torchrl_glam.data.collect import OverlappedCollector, ResumableCollector
from torchrl_glam.data.prefetch import Prefetcher, record_bytes, ring_device
from torchrl_glam.data.replay import make_replay, newest_records

__all__ = [
    "OverlappedCollector",
    "Prefetcher",
    "ResumableCollector",
    "make_replay",
    "newest_records",
    "record_bytes",
    "ring_device",
]
