"""Heads of other methods, which compute their distance themselves. They need torch alone."""

from mmdiffkd.heads.features import FGDHead, MGDHead
from mmdiffkd.heads.predictions import CrossKDHead, LDHead
