"""Autoregressive networks over integers: of codes, or of pixels."""

from __future__ import annotations

from jensen.nn.autoregressive.base import AutoregressiveNet
from jensen.nn.autoregressive.build import make_autoregressive
from jensen.nn.autoregressive.pixelcnn import GatedPixelCNN
from jensen.nn.autoregressive.sampling import draw
from jensen.nn.autoregressive.transformer import CodeTransformer

__all__ = ["AutoregressiveNet", "CodeTransformer", "GatedPixelCNN", "draw", "make_autoregressive"]
