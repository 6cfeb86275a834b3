"""Processes with mounts of their own: small, full and read-only disks that nobody else sees."""

import os


def mounting(script, network=True):
    """A prefix for a command: it runs behind the mounts that `script` makes."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    if not network:
        unshare.append("-n")
    return [*unshare, "--", "sh", "-ec", f'{script}; exec "$@"', "sh"]
