"""Real experience."""

from torchrl_glam.data.collect import OverlappedCollector
from torchrl_glam.data.prefetch import Prefetcher, record_bytes, ring_device
from torchrl_glam.data.replay import make_replay, newest_records

__all__ = ["OverlappedCollector", "Prefetcher", "make_replay", "newest_records", "record_bytes", "ring_device"]
