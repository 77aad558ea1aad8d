"""Source text that stands in for a file, so that a changed kernel is loaded without touching the file it came from.

The file keeps its place: what lies beside it, its package and the lines of its tracebacks are those of the original.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from types import CodeType


class Overlay:
    """From now on this process reads the given texts in place of files, until it ends.

    That is so wherever Python imports a module, and where Triton or a traceback asks for its source.

    Args:
        texts: By the file's resolved path, what stands in for it.

    Attributes:
        unread: The files that nothing has imported so far.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.unread = set(texts)
        original = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            path = loader.get_filename(fullname)
            text = texts.get(path)
            if text is None:
                return original(loader, fullname)
            self.unread.discard(path)
            # Not through the loader's cache of bytecode, which knows the file alone.
            code: CodeType = loader.source_to_code(text.encode(), path)
            return code

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]  # this process exists for one target
        for path, text in texts.items():
            # Without a time of modification the entry is never compared with the file.
            linecache.cache[path] = len(text), None, text.splitlines(keepends=True), path
