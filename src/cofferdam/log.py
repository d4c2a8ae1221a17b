"""Loggers of the host package: one name space, silent unless a verb turns it on."""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """Return the logger `cofferdam.NAME`."""
    return logging.getLogger(f"cofferdam.{name.removeprefix('cofferdam.')}")
