"""A disk with I/O errors: what the program writes or syncs fails, from one moment to another, while it runs."""

import os
import subprocess
from pathlib import Path


class BadDisk:
    """Fails calls of one program, which is to be started with `environment`."""

    def __init__(self, directory):
        self.rules = Path(directory) / "bad-disk.rules"
        library = Path(directory) / "bad-disk.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), "BAD_DISK": str(self.rules)}

    def fail(self, *rules):
        """From now on: `write PART` or `sync PART` for files with PART in their path."""
        half = self.rules.with_suffix(".half")
        half.write_text("\n".join(rules))
        os.replace(half, self.rules)

    def heal(self):
        self.rules.unlink()
