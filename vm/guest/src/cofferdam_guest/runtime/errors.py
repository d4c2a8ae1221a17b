"""Why the wrapper refuses to start something."""

NAME = "cofferdam"


class Refusal(Exception):
    """A container that must not run as asked: `rule` names the rule for the journal, the message goes to the user."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"error in the container spec: {reason}")
        self.rule = rule


class UsageError(Exception):
    """A command line that the wrapper does not understand and therefore does not pass on."""


def unsupported(rule: str, reason: str) -> Refusal:
    """Return the refusal of a spec that asks for what isolation cannot give."""
    return Refusal(rule, f"invalid or unsupported container spec: {reason}")
