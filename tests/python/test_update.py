"""What a box asks of itself after an update, and what `/readyz` and the command line say of the system."""

import json
import subprocess

import httpx
import pytest

import allerac


def health(server, data, wait_s: int = 5) -> subprocess.CompletedProcess:
    command = [str(allerac.BINARY), "health", "--url", server, "--wait-s", str(wait_s), "--data-dir", str(data)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def test_a_server_that_answers_is_healthy(tmp_path):
    data = allerac.data_dir(tmp_path / "data")
    with allerac.Server(data) as server:
        done = health(server.url, data)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"healthy: {allerac.MODEL} answered in ")
        keys = subprocess.run(
            [str(allerac.BINARY), "keys", "list", "--json", "--data-dir", str(data)], capture_output=True, text=True, check=True
        )
        (row,) = json.loads(keys.stdout)
        assert row["user"] == "allerac-health" and row["revoked_at"] is not None
        # Nobody owns the box because of it.
        assert httpx.get(f"{server.url}/claim").json()["claimed"] is False


def test_a_server_whose_models_cannot_answer_is_not(tmp_path):
    data = allerac.data_dir(tmp_path / "data")
    # The weights are of another model than the record says: they cannot be loaded.
    blob = next((data / "models/blobs").iterdir())
    size = blob.stat().st_size
    blob.unlink()
    blob.write_bytes(b"\0" * size)
    server = allerac.Server(data).start(ready=False)
    try:
        done = health(server.url, data)
    finally:
        server.stop()
    assert done.returncode == 1
    assert done.stderr == "error: the server cannot answer; its log says why\n"


def test_no_server_is_not_healthy(tmp_path):
    done = health("http://127.0.0.1:9", tmp_path, wait_s=1)
    assert (done.returncode, done.stderr) == (1, "error: the server does not answer\n")


def test_readiness_tells_of_the_system(tmp_path):
    status = tmp_path / "status.json"
    told = {"version": "0.1.0.7", "notice": "version 0.1.0.8 did not work on this box; version 0.1.0.7 runs again"}
    with allerac.Server(allerac.data_dir(tmp_path / "data"), arguments=("--system-status", str(status))) as server:
        assert "system" not in server.wait_ready()
        status.write_text(json.dumps({**told, "entries": []}))
        assert server.wait_ready()["system"] == told


@pytest.mark.parametrize("command", [["status"], ["check", "--source", "/nowhere"], ["apply", "--source", "/nowhere"]])
def test_only_a_box_of_the_image_updates(command):
    done = subprocess.run([str(allerac.BINARY), "update", *command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 3
    assert done.stderr == (
        "error: this system was not made from Allerac's image\nhint: update it in the way that it was installed\n"
    )


def test_a_source_must_be_one():
    done = subprocess.run(
        [str(allerac.BINARY), "update", "source", "ftp://example.org"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "`ftp://example.org` is no place where updates can come from" in done.stderr
