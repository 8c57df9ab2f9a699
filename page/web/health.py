"""/health for probes, without a login: whether the page shows what the topics say."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from page.reader.state import Phase
from page.web.services import services_of


def health(request: Request) -> Response:
    """GET /health: 200 if the page follows the topics, else 503."""
    state = services_of(request).follower.state
    answer = {"state": state.kind.value, "share": round(state.share, 3), "problem": state.line or None}
    return JSONResponse(answer, 200 if state.kind is Phase.LIVE else 503)
