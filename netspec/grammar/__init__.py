"""The language: text to syntax tree and back."""

from __future__ import annotations

SUFFIXES = (".net", ".prototxt")
"""How the files of a spec end."""
