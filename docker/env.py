#!/usr/bin/env python3
"""Write .env for docker compose: .env.example with a random value for each password and key.

Run it in the project's directory. It does not overwrite an existing .env. Needs only Python.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path


def with_secrets(example: str) -> str:
    """Return the example with 48 random hexadecimal digits after each empty `…PASSWORD=` and `…KEY=`."""
    return re.sub(
        r"^(\w+(?:PASSWORD|KEY)=)$", lambda line: line[1] + secrets.token_hex(24), example, flags=re.MULTILINE
    )


def main(directory: Path) -> None:
    """Write .env, readable by its owner only."""
    path = directory / ".env"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} already exists: not changed", file=sys.stderr)
        return
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(with_secrets((directory / ".env.example").read_text(encoding="utf-8")))
    print(f"wrote {path} with random passwords", file=sys.stderr)


if __name__ == "__main__":
    main(Path())
