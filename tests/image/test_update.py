"""A box changes to newer versions, over and over: good ones stay, bad ones do not, and its owner hears of it."""

import http.server
import shutil
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from machine import Machine, image, overlay
from test_boot import MODEL

LOOK_OFTEN = """[Unit]
Description=Looks for updates all the time, where a box looks at night
[Timer]
OnActiveSec=10s
OnUnitInactiveSec=10s
AccuracySec=1s
Unit=allerac-update.service
"""
ON_SERIAL = "[Service]\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n"
HOST = "10.0.2.2"
"""This machine, as the virtual one sees it."""


class Source:
    """A web server with the files of one version, which may break off in the middle of one."""

    def __init__(self):
        self.folder: Path | None = None
        self.breaks_in: str | None = None
        self.broken = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def _handler(self):
        source = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                file = source.folder and source.folder / Path(self.path).name
                if not file or not file.is_file():
                    self.send_error(404)
                    return
                content = file.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if source.breaks_in and source.breaks_in in file.name:
                    self.wfile.write(content[: len(content) // 2])
                    source.broken.set()
                    # The rest never comes; the machine is switched off meanwhile.
                    time.sleep(60)
                    return
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        return Handler


def releases() -> Path:
    return image().parent / "releases"


def stick(folder: Path, *files: Path) -> Path:
    """A stick that boxes know by its label, with these files."""
    disk = folder / "stick.img"
    disk.unlink(missing_ok=True)
    size = 8 * 2**20 + sum(file.stat().st_size for file in files)
    with disk.open("wb") as empty:
        empty.truncate((size + 2**20) // 2**20 * 2**20)
    subprocess.run(["mkfs.vfat", "-n", "ALLERAC", str(disk)], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", str(disk), *map(str, files), "::"], check=True)
    return disk


@pytest.fixture(scope="module")
def source():
    return Source()


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    machine = Machine(folder, overlay(image(), folder / "disk.qcow2"), units={"look-often.timer": LOOK_OFTEN})
    machine.drop_ins = {"allerac-update.service": ON_SERIAL, "allerac-stick@.service": ON_SERIAL}
    with machine:
        yield machine


@pytest.fixture(scope="module")
def key(box):
    box.wait_http("/readyz")
    code = box.wait_line("claim-code=")
    answer = httpx.post(f"{box.url}/claim", json={"code": code, "owner": "olga"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


def system(box, version: str, notice: str | None = "") -> dict:
    """Waits until this version runs and can answer, and says this of updates (when it matters)."""

    def look():
        try:
            answer = httpx.get(f"{box.url}/readyz", timeout=10)
        except httpx.HTTPError:
            return None
        told = answer.json().get("system") if answer.status_code == 200 else None
        is_it = told and told["version"] == version and notice in ("", told["notice"])
        return told if is_it else None

    return box.wait(f"version {version} with the notice {notice!r}", look, 1800)


def answers(box, key) -> bool:
    request = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(f"{box.url}/v1/chat/completions", json=request, headers={"Authorization": f"Bearer {key}"}, timeout=600)
    return answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] > 0


def test_a_stick_brings_a_new_version(box, key, source, tmp_path):
    system(box, "0.0.0", None)
    where = tmp_path / "update-source"
    where.write_text(source.url + "\n")
    began = time.monotonic()
    box.plug_in(stick(tmp_path, where, *(releases() / "0.0.1").iterdir()))
    box.wait("the update to be installed", lambda: "version 0.0.1 is installed" in box.said(), 1800)
    installed = time.monotonic()
    print(f"\nthe update was on the disk after {installed - began:.0f} s")
    system(box, "0.0.1", None)
    print(f"it answered and had proven itself {time.monotonic() - installed:.0f} s later")
    assert answers(box, key)
    box.pull_out()


def test_what_is_older_or_forged_is_refused(box, key, tmp_path):
    box.look_away()
    box.plug_in(stick(tmp_path, *(releases() / "0.0.0").iterdir()))
    box.wait("the refusal", lambda: "nothing newer is there" in box.said(), 600)
    box.pull_out()
    forged = tmp_path / "forged"
    forged.mkdir()
    for file in (releases() / "0.0.1").iterdir():
        shutil.copy(file, forged / file.name.replace("0.0.1", "0.0.9"))
    sums = (forged / "SHA256SUMS").read_text().replace("0.0.1", "0.0.9")
    (forged / "SHA256SUMS").write_text(sums)
    box.plug_in(stick(tmp_path, *forged.iterdir()))
    system(box, "0.0.1", "the update from /run/allerac-update/stick did not come")
    box.pull_out()
    assert answers(box, key)


def test_a_power_cut_during_an_update_leaves_the_old_version(box, key, source):
    source.folder, source.breaks_in = releases() / "0.0.2", ".usr."
    assert source.broken.wait(600), "the box did not fetch the update"
    box.cut_power()
    source.folder = source.breaks_in = None
    box.start()
    system(box, "0.0.1")
    assert answers(box, key)


def gives_up(box, key, source, version: str):
    box.look_away()
    source.folder = releases() / version
    began = time.monotonic()
    box.wait("the update to be installed", lambda: f"version {version} is installed" in box.said(), 1800)
    installed = time.monotonic()
    system(box, "0.0.1", f"version {version} did not work on this box; version 0.0.1 runs again")
    print(f"\n{version}: installed after {installed - began:.0f} s, given up and back {time.monotonic() - installed:.0f} s later")
    assert answers(box, key)
    # It stays away: what the source still offers is not tried again.
    box.look_away()
    box.wait("another look", lambda: box.said().count("nothing newer is there") >= 2, 600)


def test_a_version_that_does_not_boot_is_given_up(box, key, source):
    gives_up(box, key, source, "0.0.2")


def test_a_version_whose_server_crashes_is_given_up(box, key, source):
    gives_up(box, key, source, "0.0.3")


def test_a_version_whose_models_cannot_answer_is_given_up(box, key, source):
    gives_up(box, key, source, "0.0.4")
