"""Models of a hub: the real programs against a server that speaks as hubs do."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import ollama
import pytest

import allerac
import hub as hubs
from allerac import wait_for

MIB = 1 << 20
ID = "smollm2-135m-instruct:q4_1"
REFERENCE = f"{hubs.REPOSITORY}:Q4_1"
SIZE = 98_362_432
ASK = {"model": ID, "prompt": "1, 2, 3,", "temperature": 0, "max_tokens": 4}


@pytest.fixture(scope="module")
def running():
    with hubs.Hub() as hub:
        yield hub


@pytest.fixture
def hub(running, monkeypatch):
    running.reset()
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return running


def command(data, *arguments) -> list[str]:
    return [str(allerac.BINARY), "--data-dir", str(data), "models", *map(str, arguments)]


def models(data, *arguments, ok=True, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command(data, *arguments), capture_output=True, text=True, timeout=120, **options)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def stored(data) -> int:
    """What there is of a download, in bytes of the disk."""
    parts = list((data / "models/partial").glob("*.hub")) if (data / "models/partial").exists() else []
    return sum(part.stat().st_blocks * 512 for part in parts)


def test_a_download_that_is_killed_at_any_time_goes_on_where_it_was(hub, tmp_path):
    hub.bytes_a_second = 3_000_000
    marked = 1
    for least in (40 * MIB, 60 * MIB, 80 * MIB):
        process = subprocess.Popen(command(tmp_path, "pull", REFERENCE), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for("a part of it", lambda least=least: stored(tmp_path) > least, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list((tmp_path / "models/installed").glob("*"))
        marks = next((tmp_path / "models/partial").glob("*.map")).read_bytes()[8:].count(b"#")
        # Nothing that was marked is lost, and no more than two seconds of each connection are not marked yet.
        assert marks >= marked
        marked = marks
    hub.bytes_a_second, hub.ranges = None, []
    done = models(tmp_path, "pull", REFERENCE)
    assert done.stdout == f"{ID} is installed and verified (98.36 MB)\n"
    asked = sum(end - start for start, end in hub.ranges)
    assert asked == SIZE - marked * MIB
    assert not list((tmp_path / "models/partial").glob("*.hub"))


def test_faults_are_ridden_out_and_progress_has_rate_and_time(hub, tmp_path):
    hub.faults = [5 * MIB, "503", "429", 0]
    hub.bytes_a_second = 5_000_000
    done = models(tmp_path, "pull", REFERENCE)
    lines = [line for line in done.stderr.splitlines() if line.startswith(ID)]
    assert any("MB/s" in line and "left" in line for line in lines), done.stderr


def test_the_api_fetches_by_ollamas_names_and_the_model_answers(hub, tmp_path):
    server = allerac.Server(tmp_path / "data").start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        owner = server.claim()
        client = ollama.Client(host=server.url, headers={"authorization": f"Bearer {owner}"})
        hub.bytes_a_second = 20_000_000
        with server.http(owner) as http, http.stream("POST", "/api/pull", json={"model": f"hf.co/{REFERENCE}"}) as answer:
            lines = [json.loads(line) for line in answer.iter_lines()]
        fetching = [line for line in lines if "completed" in line]
        assert {line["digest"] for line in fetching} == {f"sha256:{allerac.MODEL_SHA256}"}
        assert {line["total"] for line in fetching} == {SIZE}
        assert any(line.get("bytes_per_second") and "eta_seconds" in line for line in fetching)
        assert lines[-1] == {"status": "success"}
        with server.http(owner) as http:
            assert http.post("/v1/completions", json=ASK).json()["choices"][0]["text"] == " 4, "
        for name, said in ((f"hf.co/{hubs.REPOSITORY}:Q9_9", "it has Q4_1"), ("hf.co/nobody/nothing", "no repository")):
            with pytest.raises(ollama.ResponseError, match=said) as refused:
                client.pull(name)
            assert refused.value.status_code == 404
        hub.licence = "llama3.2"
        client.delete(ID)
        with server.http(owner) as http:
            refused = http.post("/api/pull", json={"model": REFERENCE, "stream": False})
            assert refused.status_code == 403
            assert "llama3.2" in refused.json()["error"] and "accept_licence" in refused.json()["error"]
            accepted = http.post("/api/pull", json={"model": REFERENCE, "stream": False, "accept_licence": True})
            assert accepted.json() == {"status": "success"}
            member = server.create_key("kid")
        with server.http(member) as http:
            assert http.post("/api/pull", json={"model": REFERENCE}).status_code == 403


def test_licences_and_gates_say_what_to_do(hub, tmp_path, monkeypatch):
    hub.licence = "gemma"
    refused = models(tmp_path, "pull", REFERENCE, ok=False, stdin=subprocess.DEVNULL)
    assert refused.returncode == 4
    assert "the licence gemma, which asks to be accepted first: read it at " + hub.url in refused.stderr
    hub.gated = True
    gated = models(tmp_path, "pull", REFERENCE, "--accept-licence", ok=False)
    assert f"accept its licence at {hub.url}/{hubs.REPOSITORY}" in gated.stderr
    config = tmp_path / "c.toml"
    (tmp_path / "token").write_text("hf_stranger\n")
    config.write_text("[downloads]\ntoken_file = 'token'\n")
    stranger = models(tmp_path, "pull", REFERENCE, "--accept-licence", "--config", config, ok=False)
    assert "ask its makers" in stranger.stderr and "hf_stranger" not in stranger.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_family")
    models(tmp_path, "pull", REFERENCE, "--accept-licence", "--config", config)
    accepted = (tmp_path / "models/licences.toml").read_text()
    assert hubs.REPOSITORY in accepted and f"command line, user {os.getuid()}" in accepted
    # Accepted once, it is for good.
    models(tmp_path, "rm", ID)
    models(tmp_path, "pull", REFERENCE)


def test_bandwidth_and_hours_hold(hub, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("[downloads]\nkib_per_second = 32768\nconnections = 2\n")
    began = time.monotonic()
    models(tmp_path, "pull", REFERENCE, "--config", config)
    assert time.monotonic() - began > SIZE / (32 * MIB) - 0.5
    models(tmp_path, "rm", ID)
    hour = (time.gmtime().tm_hour + 6) % 24
    config.write_text(f"time_zone = 'UTC'\n[downloads]\nhours = '{hour:02}:00-{hour:02}:30'\n")
    before = len(hub.ranges)
    waiting = subprocess.Popen(command(tmp_path, "pull", REFERENCE, "--config", config), stderr=subprocess.PIPE, text=True)
    assert "for the hours of downloads" in waiting.stderr.readline()
    waiting.kill()
    waiting.wait()
    assert len(hub.ranges) == before
    models(tmp_path, "pull", REFERENCE, "--config", config, "--now")


def test_rot_is_found_and_mended(hub, tmp_path):
    models(tmp_path, "pull", REFERENCE)
    blob = next((tmp_path / "models/blobs").iterdir())
    assert models(tmp_path, "scrub").stdout == f"{ID}: whole (98.36 MB)\n"
    with blob.open("r+b") as file:
        for place in (5 * MIB + 3, 90 * MIB):
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
    found = models(tmp_path, "scrub", "--dry-run", ok=False)
    assert "2 blocks of 1 MiB are damaged; not mended" in found.stdout
    hub.ranges = []
    mended = models(tmp_path, "scrub", ID)
    assert mended.stdout == f"{ID}: 2 blocks of 1 MiB are damaged; mended, 2.10 MB were fetched\n"
    assert hub.ranges == [(5 * MIB, 6 * MIB), (90 * MIB, 91 * MIB)]
    assert "whole" in models(tmp_path, "scrub").stdout


def test_unfinished_downloads_are_collected(hub, tmp_path):
    hub.bytes_a_second = 6_000_000
    process = subprocess.Popen(command(tmp_path, "pull", REFERENCE), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for("a part of it", lambda: stored(tmp_path) > 10 * MIB, 60)
    # Not while somebody is at it.
    assert "removed 0 files" in models(tmp_path, "gc").stdout
    assert stored(tmp_path) > 10 * MIB
    process.kill()
    process.wait()
    models(tmp_path, "gc")
    assert stored(tmp_path) == 0


def test_a_file_of_ones_own_is_imported_and_answers(tmp_path):
    own = tmp_path / "My-Model.gguf"
    shutil.copy(allerac.MODEL_FILE, own)
    data = tmp_path / "data"
    done = models(data, "import", own)
    assert done.stdout == "my-model is installed (98.36 MB); its chat template knows no tools\n"
    assert own.stat().st_nlink == 2
    with allerac.Server(data) as server:
        owner = server.claim()
        with server.http(owner) as http:
            answer = http.post("/v1/completions", json=ASK | {"model": "my-model"})
            assert answer.json()["choices"][0]["text"] == " 4, "
    assert models(data, "import", own, "--name", "smollm2-135m-instruct", ok=False).returncode == 4
    for name, content, said in (
        ("no.gguf", b"hello", "it is no GGUF file"),
        ("cut.gguf", allerac.MODEL_FILE.read_bytes()[:3_000_000], "longer than the file"),
        ("template.gguf", broken_template(), "its chat template is no valid template"),
        ("architecture.gguf", allerac.MODEL_FILE.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama\x0c", b"\x05\0\0\0\0\0\0\0lhama\x0c", 1), "cannot"),
    ):
        (tmp_path / name).write_bytes(content)
        refused = models(data, "import", tmp_path / name, ok=False)
        assert said in refused.stderr, refused.stderr
    assert [path.name for path in (data / "models/installed").iterdir()] == ["my-model.toml"]


def broken_template() -> bytes:
    content = bytearray(allerac.MODEL_FILE.read_bytes())
    at = content.index(b"{% for message in messages %}")
    content[at : at + 6] = b"{% fxr"
    return bytes(content)
