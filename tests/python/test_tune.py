"""`allerac tune` with the real engine and model, and a server that follows it."""

import json
import re
import signal
import subprocess
import time
import tomllib

import allerac
from allerac import wait_for

# A small context: deeper ones are left out, and each run takes seconds.
CONFIG = "[mdns]\nenabled = false\n[engine]\ncontext = 1024\nsequences = 2\ncells = 2048\n"
# A quick measurement bounds what it computes; the rest is for a machine that is busy with other things.
TUNE_SECONDS_MAX = 420


def box(tmp_path) -> allerac.Server:
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    server.config.write_text(CONFIG)
    return server


def tune(server, *arguments) -> list[str]:
    data, config = str(server.data), str(server.config)
    return [str(allerac.BINARY), "tune", "--quick", "--data-dir", data, "--config", config, *arguments]


def engine_arguments(server) -> dict[str, str]:
    (engine,) = server.engine_pids()
    words = allerac.Path(f"/proc/{engine}/cmdline").read_text().split("\0")
    return dict(zip(words[1:], words[2:], strict=False))


def test_a_quick_measurement_is_kept_and_used(tmp_path):
    server = box(tmp_path)
    begun = time.monotonic()
    # Tests run beside others: what is measured here is believed.
    done = subprocess.run(
        tune(server, "--busy", "--json"), capture_output=True, text=True, timeout=TUNE_SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(f"measured in {time.monotonic() - begun:.0f} s")
    said = json.loads(done.stdout)
    kept = tomllib.loads((server.data / "tuned.toml").read_text())
    assert kept == said
    assert (kept["version"], kept["model"], kept["model_sha256"]) == (1, allerac.MODEL, allerac.MODEL_SHA256)
    chosen = kept["engine"]
    assert chosen in [trial["engine"] for trial in kept["trial"]]
    for trial in kept["trial"]:
        assert "failure" not in trial
        parts = {(one["phase"], one["depth"], one["sequences"]) for one in trial["measured"]}
        assert parts == {("prefill", 0, 1), ("decode", 0, 1), ("decode", 0, 2)}
        assert all(one["tokens_per_second"] > 1 for one in trial["measured"])
    assert all(one["gigabytes_per_second"] > 0.1 for one in kept["bandwidth"])

    with server:
        arguments = engine_arguments(server)
        assert arguments["--threads"] == str(chosen["threads"])
        assert arguments["--flash-attention"] == chosen["flash_attention"]
        assert (arguments["--kv-type-k"], arguments["--kv-type-v"]) == (chosen["kv_type_k"], chosen["kv_type_v"])
        assert "tuned" in server.log
        with server.client(server.create_key()) as client:
            answer = client.completions.create(model=allerac.MODEL, prompt="1, 2, 3,", max_tokens=4, temperature=0)
        assert answer.choices[0].text == " 4, "
        # It would disturb and be disturbed.
        refused = subprocess.run(tune(server), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert refused.returncode == 4
        assert "stop the server, measure, and start it again" in refused.stderr
    doctor = server.cli("doctor", "--config", str(server.config), "--listen", "127.0.0.1:0")
    assert re.search(rf"ok +tuning +measured quickly, at {kept['measured_at']} with {allerac.MODEL}\n", doctor.stdout)
    assert f"K {chosen['kv_type_k']}, V {chosen['kv_type_v']}" in doctor.stdout
    assert re.search(r"ok +kernels +(built for this machine|those for \w+ of a portable build), with .*SSE3", doctor.stdout)


def test_an_interruption_leaves_nothing_behind(tmp_path):
    server = box(tmp_path)
    running = subprocess.Popen(
        tune(server), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def engines():
        found = [path.read_text().split() for path in allerac.Path(f"/proc/{running.pid}/task").glob("*/children")]
        return [int(pid) for pids in found for pid in pids]

    (engine,) = wait_for("an engine that measures", engines, 60)
    before = sorted(path.name for path in server.data.iterdir())
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "interrupted by SIGINT; nothing was changed" in said
    assert sorted(path.name for path in server.data.iterdir()) == before
    assert not (server.data / "tuned.toml").exists()
    wait_for("the engine's end", lambda: not allerac.Path(f"/proc/{engine}").exists())
    # Nothing stands in the way of a server.
    with server:
        assert engine_arguments(server)["--kv-type-k"] == "f16"
