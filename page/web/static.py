"""The files of page/static: under a URL with their hash, so that browsers keep them for good."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

FOLDER = Path(__file__).parent.parent / "static"
#: types that the system's table may lack or call otherwise
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".ico": "image/x-icon"}


class Static:
    """The files, in memory. Their URLs share one hash, that of all, so that a module finds others beside it."""

    def __init__(self) -> None:
        paths = sorted(p for p in FOLDER.rglob("*") if p.is_file() and not p.name.startswith("."))
        self._files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
        names = "".join(f"{name}\0{hashlib.sha256(content).hexdigest()}\0" for name, content in self._files.items())
        self.hash = hashlib.sha256(names.encode()).hexdigest()[:16]

    def url(self, name: str) -> str:
        """Return the URL of a file. Raises KeyError if there is none of this name."""
        if name not in self._files:
            raise KeyError(f"page/static has no {name}")
        return f"/static/{self.hash}/{name}"

    def endpoint(self, request: Request) -> Response:
        """Answer with a file: /static/{hash}/{name:path}."""
        name = request.path_params["name"]
        if (content := self._files.get(name)) is None:
            raise HTTPException(404)
        if request.path_params["hash"] != self.hash:  # of a page that another version has made
            return RedirectResponse(self.url(name), 302)
        kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=31536000, immutable"})
