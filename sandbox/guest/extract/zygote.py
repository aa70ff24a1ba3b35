"""The zygote of a jail that reads files: everything imported once, a fork for each file."""

from __future__ import annotations

from ..zygote import serve  # noqa: TID252 (in the jail the package goes by another name)
from . import job

# What a library would only import when it meets a file that needs it.
MODULES = (
    "encodings.cp1250", "encodings.cp1251", "encodings.cp1252", "encodings.latin_1", "encodings.utf_16", "encodings.idna",
    "email.parser", "email.policy", "email.contentmanager", "quopri", "base64", "html.entities", "xml.dom.minidom",
    "xml.dom.expatbuilder", "pyexpat", "mammoth.docx", "zlib", "lzma", "bz2",
)  # fmt: skip

if __name__ == "__main__":
    serve(MODULES, job.warm_up, job.main)
