"""Whether this machine can build and boot: a table of requirements, each with its next step."""

from cofferdam.doctor.engine import doctor
from cofferdam.doctor.model import Check

__all__ = ["Check", "doctor"]
