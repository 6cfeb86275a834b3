"""Libraries loaded before libc, which make the world of one program worse while it runs. A file tells them how."""

import os
import subprocess
from pathlib import Path


class Preload:
    """Compiles `NAME.c` from beside this file; the program is to be started with `environment`."""

    def __init__(self, name, directory):
        self.orders = Path(directory) / f"{name}.orders"
        source, library = Path(__file__).with_name(f"{name}.c"), Path(directory) / f"{name}.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), name.upper(): str(self.orders)}

    def order(self, text):
        # There whole or not at all: the program may be reading.
        half = self.orders.with_suffix(".half")
        half.write_text(text)
        os.replace(half, self.orders)


class BadDisk(Preload):
    """A disk with I/O errors."""

    def __init__(self, directory):
        super().__init__("bad_disk", directory)

    def fail(self, *rules):
        """From now on: `write PART` or `sync PART` for files with PART in their path."""
        self.order("\n".join(rules))

    def heal(self):
        self.order("")


class WrongClock(Preload):
    """A clock that somebody sets wrong."""

    def __init__(self, directory):
        super().__init__("wrong_clock", directory)

    def shift(self, seconds):
        """From now on it shows so many seconds more than the right time."""
        self.order(str(seconds))
