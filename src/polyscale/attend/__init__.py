"""Attention over scales for a network that is trained already: it is frozen, and only the attention is learnt."""

from polyscale.attend.config import AttendConfig
from polyscale.attend.judge import Judgement
from polyscale.attend.run import AttendResult, attend_network

__all__ = ["AttendConfig", "AttendResult", "Judgement", "attend_network"]
