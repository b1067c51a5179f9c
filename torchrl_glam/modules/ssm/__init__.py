"""Selective state spaces (Mamba, arXiv 2312.00752): the scan, its backends, and the block around it."""

from torchrl_glam.modules.ssm.backends import available_backends, describe_backend, resolve_backend
from torchrl_glam.modules.ssm.block import MambaBlock
from torchrl_glam.modules.ssm.scan import selective_scan, selective_scan_reference, selective_scan_step

__all__ = [
    "MambaBlock",
    "available_backends",
    "describe_backend",
    "resolve_backend",
    "selective_scan",
    "selective_scan_reference",
    "selective_scan_step",
]
