"""A server on loopback that answers OSV queries from a directory of advisories, as api.osv.dev answers them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.version import Version


def hits(advisory: dict[str, Any], package: str, version: str) -> bool:
    """Whether a version is affected: the algorithm of the OSV specification for ranges of ECOSYSTEM."""
    for affected in advisory["affected"]:
        if affected["package"]["name"] != package:
            continue
        for span in affected["ranges"]:
            inside = False
            for event in span["events"]:
                at = Version(next(iter(event.values())))
                if "introduced" in event:
                    inside |= Version(version) >= at
                elif "fixed" in event:
                    inside &= Version(version) < at
                else:
                    inside &= Version(version) <= at
            if inside:
                return True
    return False


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve the advisories of `directory`; the URL without a path."""
    records = {path.stem: json.loads(path.read_text()) for path in directory.glob("*.json")}

    def found(query: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in records.values() if hits(one, query["package"]["name"], query.get("version", "0"))]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/querybatch"):
                results = [
                    {"vulns": [{"id": one["id"], "modified": one["modified"]} for one in found(query)]}
                    for query in body["queries"]
                ]
                self.answer({"results": results})
            else:
                self.answer({"vulns": found(body)})

        def do_GET(self) -> None:
            self.answer(records[self.path.rpartition("/")[2]])

        def answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
