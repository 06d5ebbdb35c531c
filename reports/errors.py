"""What can go wrong when a report is made; each error says what was asked, what there is, and what to do."""


class ReportError(Exception):
    """Base of every error that `reports` raises."""

    def __str__(self) -> str:
        """The plain sentence (OSError would put a number before it)."""
        return " ".join(str(part) for part in self.args)


class NothingToReport(ReportError, ValueError):
    """No result was given."""


class CannotWrite(ReportError, OSError):
    """The file cannot be written where it was asked."""
