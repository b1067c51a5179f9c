"""The files of a run and how it resumes: folder, checkpoints, metrics, progress, an orderly end, export."""

from __future__ import annotations
