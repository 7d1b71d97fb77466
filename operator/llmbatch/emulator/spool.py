"""Where file contents lie while the emulator runs."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path


class Spool:
    """A folder of its own for contents, so that memory doesn't grow with them; gone when it is closed."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="llmbatch-emulator-", dir=folder))
        self._numbers = count()

    def new_path(self) -> Path:
        """A path that nothing has used."""
        return self._folder / str(next(self._numbers))

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
