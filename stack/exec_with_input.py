"""`python exec_with_input.py FILE DIRECTORY COMMAND …`: run a command in a directory, with FILE as its standard input.

The input does not end after the content of FILE: the process itself holds the other end of the pipe. It becomes the
command, so its pid, its locks and its parent stay the same. Runs as a script, and imports nothing of this package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: what a pipe holds at least without a reader on Linux [bytes]; macOS: 16 KiB
PIPE_BYTES = 16 * 1024


def main(file: str, directory: str, *argv: str) -> None:
    """Become the command."""
    content = Path(file).read_bytes()
    if len(content) > PIPE_BYTES:
        sys.exit(f"{file}: more than the {PIPE_BYTES} bytes that a pipe holds")
    read_end, write_end = os.pipe()
    os.write(write_end, content)
    os.set_inheritable(write_end, True)
    os.dup2(read_end, 0)
    os.chdir(directory)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
