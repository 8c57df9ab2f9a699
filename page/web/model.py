"""The page of the model: how good it is, what it is for, and what not."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from page.cases.actions import State
from page.store import course_queries as queries
from page.web.known_models import known_models
from page.web.model_card import card_of
from page.web.render import render
from page.web.services import services_of, visitor_of


def model(request: Request) -> Response:
    """GET /model"""
    services, visitor = services_of(request), visitor_of(request)
    settings = services.settings
    with services.database.snapshot() as connection:
        in_use = queries.models(connection, visitor.courses)
        states = queries.case_states(connection, visitor.courses)
    card = card_of(settings.page_report)
    context = {
        "card": card,
        "in_use": in_use,
        "is_described": all(name == card.id for name, _ in in_use),
        "is_known": {name: name in known_models(settings.model) for name, _ in in_use},
        "closed": sum(states.get(state, 0) for state in (State.CONTACTED, State.NOT_APPLICABLE, State.WRONG)),
        "wrong": states.get(State.WRONG, 0),
    }
    return render(request, "model.html", context)


ROUTES = [Route("/model", model)]
