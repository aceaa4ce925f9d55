"""Attention over scales for a network that is trained already: it is frozen, and only the attention is learnt."""

from polyscale.attending.anyone import attend
from polyscale.attending.config import AttendConfig
from polyscale.attending.judge import Judgement
from polyscale.attending.run import AttendResult, attend_network

__all__ = ["AttendConfig", "AttendResult", "Judgement", "attend", "attend_network"]
