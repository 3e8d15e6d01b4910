"""The page at `/`: its files, read once, under a policy that lets nothing else in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

FOLDER = Path(__file__).with_name("web")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def _files() -> dict[str, Path]:
    found = {f"/web/{path.name}": path for path in FOLDER.iterdir() if path.suffix in TYPES}
    return {"/": found.pop("/web/index.html"), **found}


FILES: Mapping[str, Path] = _files()
"""The page's files by their paths; they hold no data, so they need no key."""

# Questions and what models write may hold anything. Scripts come from our files alone, text never
# becomes markup (`require-trusted-types-for`), and no request leaves for another host.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Asked for each time, sent only when it has changed: an upgrade is there at the next load.
    "cache-control": "no-cache",
}


def page_routes() -> APIRouter:
    """One route a file."""
    routes = APIRouter(include_in_schema=False)
    for path, file in FILES.items():
        routes.add_api_route(path, _sender(file), methods=["GET", "HEAD"])
    return routes


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = HEADERS | {"etag": tag, "content-type": TYPES[file.suffix]}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return send
