"""An S3 server on loopback (moto's) that misbehaves as real ones do: what, when and how often is the test's to say."""

import gc
import socket
import threading
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import fsspec
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from cache.far import _file_system

PASSING = ("slow down", "error", "cut", "lost")  # what a server does that has much to do
SHORT = ("short", "short and unsigned")
_TOLD = {"slow down": ("503 Slow Down", "SlowDown"), "error": ("500 Internal Server Error", "InternalError")}
Fault = Callable[[str, str], str | None]  # method, path with query -> what befalls the request


class _Quiet(WSGIRequestHandler):
    def log(self, *_told):
        """Tests tell what matters."""


class FaultyS3:
    """``fault`` is asked at every request; ``answered`` counts (method, path) of those without, ``befell`` the others.

    slow down, error: 503 or 500. cut: half of the body, then the end of the connection. lost: it is done, but no answer
    comes. silent: no answer, until whoever asked gives up. short, short and unsigned: half of the body, and a length
    that says so, with the checksum of all of it or without.
    """

    def __init__(self) -> None:
        self.fault: Fault = nothing
        self.answered: Counter[tuple[str, str]] = Counter()
        self.befell: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def behave(self) -> None:
        """From now on nothing goes wrong, and counting begins anew."""
        self.fault = nothing
        self.answered.clear()
        self.befell.clear()

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self._guard:
            fault = self.fault(method, path)
            if fault:
                self.befell[fault] += 1
            else:
                self.answered[method, environ["PATH_INFO"]] += 1
        if fault in _TOLD:
            status, code = _TOLD[fault]
            get_input_stream(environ).read()
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>please reduce your request rate</Message></Error>".encode()]
        if fault == "silent":
            get_input_stream(environ).read()
            environ["werkzeug.socket"].recv(1)  # comes back when the other end is closed
            return self._hang_up(environ)
        told = {}
        body = b"".join(self._moto(environ, lambda *args: told.setdefault("args", args)))
        if fault == "lost":
            return self._hang_up(environ)
        status, headers, *_ = told["args"]
        if fault == "short and unsigned":
            headers = [(k, v) for k, v in headers if not k.lower().startswith("x-amz-checksum")]
        if fault in ("cut", *SHORT):
            body, whole = body[: len(body) // 2], len(body)
            length = len(body) if fault in SHORT else whole
            headers = [(k, str(length) if k.lower() == "content-length" else v) for k, v in headers]
        start_response(status, headers)
        return [body]

    def _hang_up(self, environ):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError


def nothing(_method: str, _path: str) -> None:
    """Nothing goes wrong."""


def now_and_then(every: int, kinds: tuple[str, ...] = PASSING) -> Fault:
    """Of things asked for, every so many'th fails, one way after the other, and is answered when asked for again."""
    times: Counter[tuple[str, str]] = Counter()
    fresh, way = cycle(range(every)), cycle(kinds)

    def fault(method: str, path: str) -> str | None:
        times[method, path] += 1
        return next(way) if times[method, path] % 2 and next(fresh) == 0 else None

    return fault


def at(number: int, kind: str, method: str, part: str) -> Fault:
    """The request of that number, of those with that method and that part in their path, and no other."""
    left = iter(range(number))

    def fault(asked: str, path: str) -> str | None:
        return kind if asked == method and part in path and next(left, -1) == number - 1 else None

    return fault


def always(kind: str, *, after: int = 0) -> Fault:
    """Everything fails, once so many requests were answered."""
    left = iter(range(after))
    return lambda _method, _path: kind if next(left, None) is None else None


def forget_connections() -> None:
    """File systems are opened anew, with what the environment says by then."""
    _file_system.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    gc.collect()
