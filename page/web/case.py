"""Actions on a case, as a browser sends them."""

from __future__ import annotations

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from page.cases.actions import Kind
from page.cases.audit import Look
from page.cases.desk import Done, InvalidText, NotWritten, UnknownEntry
from page.web.case_form import RELEASE, TAKE, CaseForm
from page.web.render import render
from page.web.services import address_of, form_of, services_of, visitor_of
from page.web.student import entry_of, student_page

#: versions have at most so many digits
_DIGITS = 9


def act(request: Request) -> Response:
    """POST /student/{token}/case"""
    services, visitor = services_of(request), visitor_of(request)
    student, course = entry_of(request)
    sent = form_of(request)
    button, note, action_id = (sent.get(name, "") for name in ("kind", "note", "action_id"))
    version = _version(sent.get("version", ""))
    kind = Kind.ASSIGN.value if button in (TAKE, RELEASE) else button
    assignee = visitor.name if button == TAKE else None
    try:
        services.audit.record(visitor, Look.ACTION, [(student, course)], address=address_of(request), kind=kind)
        answer = services.desk.act(visitor, student, course, version, kind, action_id, note, assignee)
    except UnknownEntry:
        raise HTTPException(404) from None
    except InvalidText as error:
        text = str(error)
        return student_page(
            request,
            lambda _: CaseForm(version, note, error=text, problem="Not recorded: the note cannot be kept as it is."),
            status=422,
        )
    except NotWritten:
        form = CaseForm(version, note, action_id)
        context = {"form": form, "kind": button, "token": request.path_params["token"]}
        return render(request, "case_unsure.html", context, status=503)
    if isinstance(answer, Done):
        return RedirectResponse(f"/student/{request.path_params['token']}?done={quote(button)}#case", 303)
    title = "Not recorded: the case has changed meanwhile."
    return student_page(
        request,
        lambda shown: CaseForm(shown, note, problem=title, happened=answer.happened),
        status=409,
    )


def _version(text: str) -> int:
    """Return the version of a case in a form. Raises 400."""
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise HTTPException(400, "The form is damaged: load the page again.")
    return int(text)


ROUTES = [Route("/student/{token}/case", act, methods=["POST"])]
