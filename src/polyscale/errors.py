"""The one error type that users see."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something that the user can change: one line that names the thing, what is allowed and what to do."""
