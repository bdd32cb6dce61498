"""animegen: train, sample, translate, evaluate and compare generators of anime faces."""

from __future__ import annotations

__version__ = "0.1.0"
