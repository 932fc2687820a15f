"""A model hub of the test's own: it describes repositories and gives their files by ranges, behind a redirect, with faults on order."""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import allerac

COMMIT = "a" * 40
REPOSITORY = "testers/SmolLM2-135M-Instruct-GGUF"
FILE = "SmolLM2-135M-Instruct-Q4_1.gguf"
PIECE_BYTES = 1 << 17


class Hub:
    """One repository with the test model, under the licence that `licence` says, and with the files in `more`."""

    def __init__(self):
        self.content = allerac.MODEL_FILE.read_bytes()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.reset()

    def reset(self):
        self.licence, self.gated, self.faults, self.ranges, self.bytes_a_second = "apache-2.0", False, [], [], None
        self.sent, self.more = 0, {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def description(self) -> dict:
        def file(name, content):
            size, sha256 = len(content), hashlib.sha256(content).hexdigest()
            return {"rfilename": name, "size": size, "blobId": COMMIT, "lfs": {"sha256": sha256, "size": size, "pointerSize": 134}}

        files = [file(name, content) for name, content in {FILE: self.content, **self.more}.items()]
        readme = {"rfilename": "README.md", "size": 3, "blobId": "b" * 40}
        return {"id": REPOSITORY, "sha": COMMIT, "gated": "auto" if self.gated else False,
                "cardData": {"license": self.licence}, "siblings": [*files, readme]}  # fmt: skip

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def plain(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path.startswith(f"/api/models/{REPOSITORY}/revision/"):
                    return self.plain(200, json.dumps(hub.description()).encode(), content_type="application/json")
                asked = self.path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
                if asked == FILE or asked in hub.more:
                    if hub.gated and self.headers.get("authorization") != "Bearer hf_family":
                        return self.plain(403, x_error_code="GatedRepo", x_error_message="ask its makers")
                    return self.plain(302, location=f"http://localhost:{hub.server.server_port}/cdn/{asked}")
                if self.path.startswith("/cdn/"):
                    asked = self.path.removeprefix("/cdn/")
                    return self.part(hub.content if asked == FILE else hub.more[asked])
                return self.plain(401, x_error_code="RepoNotFound")

            def part(self, content):
                assert "authorization" not in self.headers
                fault = hub.faults.pop(0) if hub.faults else None
                if isinstance(fault, str):
                    return self.plain(int(fault), retry_after="1")
                first, last = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["range"]).groups())
                hub.ranges.append((first, last + 1))
                size = len(content)
                self.send_response(206)
                self.send_header("content-range", f"bytes {first}-{last}/{size}")
                self.send_header("content-length", str(last + 1 - first))
                self.end_headers()
                end = min(last + 1, first + fault) if isinstance(fault, int) else last + 1
                for place in range(first, end, PIECE_BYTES):
                    try:
                        self.wfile.write(content[place : min(place + PIECE_BYTES, end)])
                    except OSError:
                        return
                    hub.sent += min(place + PIECE_BYTES, end) - place
                    if hub.bytes_a_second:
                        time.sleep(PIECE_BYTES / hub.bytes_a_second)
                self.close_connection = isinstance(fault, int)

        return Handler
