"""The page's server: this machine only, GET only, recordings by number, media by byte ranges.

Every address begins with a random word, so that other users of the machine, who reach its loopback too, do not see
licensed media. Requests under another host name are refused (DNS rebinding); pages of other origins get nothing.
"""

import contextlib
import mimetypes
import os
import secrets
import socket
import sys
import webbrowser
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cache.errors import AffuseError, UsageError
from fuse.view.data import Shelf
from fuse.view.maps import Maps
from fuse.view.sources import why_not

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn import Server

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def new_token() -> str:
    """The word that addresses of one server begin with."""
    return secrets.token_urlsafe(9)


def make_app(shelf: Shelf, token: str) -> "Starlette":
    """The page and its data below ``/<token>/``. Raises UsageError without the packages that it needs."""
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Mount
    except ImportError as error:
        raise UsageError("view needs starlette and uvicorn", hint="pip install 'affuse[view]'") from error
    _numbers()
    guards = [Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]
    return Starlette(routes=[Mount(f"/{token}", routes=_routes(shelf))], middleware=guards)


def _routes(shelf: Shelf) -> "list[Route]":
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    looked = Maps(shelf)
    assets, missing = _assets(), Response("nothing is here", 404, media_type="text/plain")

    def asset(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        return Response(assets[name][0], media_type=assets[name][1]) if name in assets else missing

    def listing(request: Request) -> Response:
        return JSONResponse(shelf.listing)

    def numbered(make: "Callable[..., dict[str, Any]]", request: Request) -> Response:
        try:
            return JSONResponse(make(**request.path_params))
        except IndexError:
            return missing
        except AffuseError as error:
            return JSONResponse({"error": why_not(error)}, 500)

    def media(request: Request) -> Response:
        kind, number = request.path_params["kind"], request.path_params["number"]
        files = {"media": shelf.media, "sound": shelf.sound}.get(kind, {})
        path = files.get(shelf.names[number]) if number < len(shelf.names) else None
        if path is None or not path.is_file():
            return missing
        return FileResponse(path, media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    return [
        Route("/", asset),
        Route("/static/{name}", asset),
        Route("/recordings", listing),
        Route("/recordings/{number:number}", partial(numbered, shelf.recording)),
        Route("/recordings/{number:number}/maps/{run:number}/{frame:number}", partial(numbered, looked.around)),
        Route("/{kind}/{number:number}", media),
    ]


def _numbers() -> None:
    """Numbers in addresses are short ones: Python refuses to read thousands of digits."""
    from starlette.convertors import IntegerConvertor, register_url_convertor

    class Number(IntegerConvertor):
        regex = "[0-9]{1,9}"

    register_url_convertor("number", Number())


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback; port 0: any free one. Raises UsageError where the port is taken."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"port {port} cannot be had: {error}", hint="leave --port out") from error


def address(sock: socket.socket, token: str) -> str:
    """What to open in a browser."""
    return f"http://{HOST}:{sock.getsockname()[1]}/{token}/"


def make_server(app: "Starlette") -> "Server":
    """A server of the page, not yet running."""
    from uvicorn import Config, Server

    return Server(
        Config(app, lifespan="off", ws="none", log_level="warning", server_header=False, timeout_graceful_shutdown=1)
    )


def serve(app: "Starlette", sock: socket.socket, url: str, *, browser: bool) -> None:
    """Serve until Ctrl-C, which is how it ends. A browser is opened where there is a screen, none in the terminal."""
    if browser and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(url)
    with contextlib.suppress(KeyboardInterrupt):
        make_server(app).run(sockets=[sock])
    print("closed; the same command opens it again", file=sys.stderr)


def _assets() -> dict[str, tuple[bytes, str]]:
    """Bytes and type of the page's own files, by name: read once, so that no request names a file."""
    folder = files("fuse.view") / "static"
    there = {p.name: _TYPES.get(f".{p.name.rpartition('.')[2]}") for p in folder.iterdir()}
    return {name: ((folder / name).read_bytes(), kind) for name, kind in there.items() if kind}


class _Headers:
    """Adds ``HEADERS`` to every response, errors included."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def sent(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        await self.app(scope, receive, sent)
