"""A server in a process of its own, until its standard input ends: `python -m benchmarks.serve_child '{"path": …}'`.

It prints its port. With "body" in place of "path" it is the least that Starlette can be: an endpoint that returns the
bytes of that file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any


def main(case: dict[str, Any]) -> None:
    """Serve until whoever started it lets go of its standard input."""
    threading.Thread(target=_until_the_end, daemon=True).start()
    if "body" in case:
        _bare(Path(case["body"]).read_bytes(), case["type"])
    else:
        _ours(case)


def _until_the_end() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _ours(case: dict[str, Any]) -> None:
    import hotrow
    from hotrow.serve import Limits, create_app, serve

    hotrow.set_threads(1)
    options = {name: case[name] for name in ("every", "method") if name in case}
    app = create_app(case["path"], limits=Limits(**case.get("limits", {})), **options)
    serve(app, port=0, started=lambda server: print(server.socket.getsockname()[1], flush=True))


def _bare(body: bytes, kind: str) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        if request.method == "POST":
            await request.body()
        return Response(body, media_type=kind)

    app = Starlette(routes=[Route("/v1/lookup", answer, methods=["GET", "POST"])])
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False)).run([listening])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
