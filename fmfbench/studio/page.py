"""What every page of this project is served with: its document, the palette, and the files beside it."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fmfbench.plots.palette import css_variables

__all__ = ["ASSETS", "page_routes"]

ASSETS = Path(__file__).parent / "assets"


def page_routes(document: str) -> list[BaseRoute]:
    """Routes of a page: `/` answers the asset `document`, `/assets/` the others and the palette of every picture."""

    def page(request: Request) -> Response:
        return Response((ASSETS / document).read_bytes(), media_type="text/html")

    return [
        Route("/", page),
        Route("/assets/palette.css", _palette),
        Mount("/assets", StaticFiles(directory=ASSETS)),
    ]


def _palette(request: Request) -> Response:
    return Response(css_variables(), media_type="text/css")
