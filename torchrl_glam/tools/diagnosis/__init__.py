"""Diagnosis of a run: its networks compared with real steps, part by part."""
