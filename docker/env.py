#!/usr/bin/env python3
"""Write .env for docker compose: .env.example, with a random value for every password and key.

Run from the project's directory; an .env that is there stays as it is. Needs Python alone.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path


def filled(example: str) -> str:
    """The example with 48 random hexadecimal digits behind every empty `…PASSWORD=` and `…KEY=`."""
    return re.sub(
        r"^(\w+(?:PASSWORD|KEY)=)$", lambda line: line[1] + secrets.token_hex(24), example, flags=re.MULTILINE
    )


def main(directory: Path) -> None:
    """Write it, for its owner's eyes only."""
    path = directory / ".env"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already", file=sys.stderr)
        return
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(filled((directory / ".env.example").read_text(encoding="utf-8")))
    print(f"{path} written: passwords made up, see there", file=sys.stderr)


if __name__ == "__main__":
    main(Path())
