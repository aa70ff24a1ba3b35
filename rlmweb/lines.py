"""Log lines for what strangers cause: one each, without the traceback that an error of ours has."""

from __future__ import annotations

import copy
import logging


class OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        return " ".join(super().format(plain).split())
