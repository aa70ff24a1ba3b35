"""Large ASCII texts without a second copy: CPython keeps them as the very bytes that cross.

Where anything is not as expected the callers fall back on ``str.encode`` and ``str``, which are right, and slower.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

FROM = 1 << 20  # shorter texts are not worth it
PIECE = 1 << 20
HUGE = 2 << 20
MADV_HUGEPAGE = 14
ASCII_HEAD = sys.getsizeof("") - 1

_api: Any = ctypes.pythonapi
_new = _api.PyUnicode_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_ssize_t, ctypes.c_uint32]
_utf8 = _api.PyUnicode_AsUTF8AndSize
_utf8.restype, _utf8.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_void_p]
_view = _api.PyMemoryView_FromMemory
_view.restype, _view.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def bytes_of(text: str) -> memoryview:
    """The bytes of an ASCII text where they lie. The text must live at least as long."""
    view: memoryview = _view(_utf8(text, None), len(text), 0x100)
    return view


def read(fd: int, start: int, size: int) -> str | None:
    """An ASCII text straight from a file, in huge pages where the kernel has them; None if it is not ASCII."""
    first = os.pread(fd, 4096, start)
    if not first.isascii():
        return None
    text: str = _new(size, 127)
    address = id(text) + ASCII_HEAD
    low, high = -(-address // HUGE) * HUGE, (address + size) // HUGE * HUGE
    if high > low:
        _madvise(low, high - low, MADV_HUGEPAGE)  # a fault for each 2 MB, not for each 4 KB
    at = 0
    while at < size:
        piece = os.pread(fd, min(PIECE, size - at), start + at)
        if not piece or not piece.isascii():
            return None
        ctypes.memmove(address + at, piece, len(piece))
        at += len(piece)
    return text
