"""Who watches a run. The loop prints nothing itself."""

from typing import Protocol

from polyscale.evaluation import Evaluation

__all__ = ["Listener", "Silent"]


class Listener(Protocol):
    """Who watches a run, such as the command line's progress bar. Called on the main process only."""

    def started(self, first_step: int, total_steps: int, crops_per_step: int) -> None:
        """Training begins at ``first_step`` of ``total_steps``."""

    def stepped(self, step: int, loss: float) -> None:
        """``step`` steps are done; ``loss`` is the mean since the last call."""

    def validated(self, epoch: int, evaluation: Evaluation, best: bool) -> None:
        """A validation ended after ``epoch`` epochs."""

    def said(self, message: str) -> None:
        """Something worth a line."""

    def working(self, what: str, done: int, total: int) -> None:
        """Progress of work other than training steps, such as checking the data."""


class Silent:
    """A listener that shows nothing."""

    def started(self, first_step: int, total_steps: int, crops_per_step: int) -> None:
        """Nothing."""

    def stepped(self, step: int, loss: float) -> None:
        """Nothing."""

    def validated(self, epoch: int, evaluation: Evaluation, best: bool) -> None:
        """Nothing."""

    def said(self, message: str) -> None:
        """Nothing."""

    def working(self, what: str, done: int, total: int) -> None:
        """Nothing."""
