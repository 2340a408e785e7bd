"""A web server with the answers that a test chooses: a stand-in for a Ray dashboard that fails."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = 200, json.dumps({"version": "4", "ray_version": "2.60.0"})
Answers = dict[str, tuple[int, str]]  # the start of a path -> status and text


@contextlib.contextmanager
def serve(answers: Answers) -> Iterator[str]:
    """HOST:PORT of a server that gives each path the answer of its longest start in `answers`, else status 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(answers))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _make_handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            matching = [
                answers[start] for start in sorted(answers, key=len, reverse=True) if self.path.startswith(start)
            ]
            status, text = matching[0] if matching else (404, "")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_POST = do_PUT = answer  # noqa: N815

    return Handler
