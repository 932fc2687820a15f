"""`allerac bench` with the real engine and model."""

import json
import subprocess

import pytest

import allerac

SMALL = ("--prompt", "64", "--tokens", "8", "--repeats", "3", "--threads", "1")
SECONDS_MAX = 110


def bench(server, *arguments):
    command = [str(allerac.BINARY), "bench", "--data-dir", str(server.data), "--config", str(server.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL)


@pytest.fixture
def server(tmp_path):
    return allerac.Server(allerac.data_dir(tmp_path / "data"))


def test_rows_are_as_llama_bench_names_them_and_can_be_compared(server, tmp_path):
    done = bench(server, *SMALL, "--depths", "128,0", "--batch", "64,32", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["model"], said["model_sha256"]) == (allerac.MODEL, allerac.MODEL_SHA256)
    tests = [("pp64", 0), ("tg8", 0), ("pp64", 128), ("tg8", 128)]
    expected = [(test, depth, 1, batch) for batch in (64, 32) for test, depth in tests]
    assert [(row["test"], row["depth"], row["threads"], row["batch"]) for row in said["rows"]] == expected
    for row in said["rows"]:
        assert len(row["samples"]) == 3 and min(row["samples"]) > 0
        assert row["tokens_per_second"] == pytest.approx(sum(row["samples"]) / 3)
    # Prompts are computed many tokens at once. The best of each: other programs take their part of the rest.
    assert max(said["rows"][0]["samples"]) > max(said["rows"][1]["samples"])
    # It changed nothing.
    assert not (server.data / "tuned.toml").exists()

    before = tmp_path / "before.json"

    def compared(factor, *arguments):
        earlier = json.loads(done.stdout)
        for row in earlier["rows"]:
            row["samples"] = [speed * factor for speed in row["samples"]]
            row["tokens_per_second"] *= factor
            row["deviation"] = 0
        before.write_text(json.dumps(earlier))
        return bench(server, *SMALL, "--depths", "0", "--batch", "64", "--compare", str(before), *arguments)

    # A hundred times is beyond the noise of any machine.
    slower = compared(100)
    assert slower.returncode == 1 and "2 of 2 rows became slower" in slower.stderr, slower.stderr
    assert slower.stdout.count("SLOWER") == 2
    faster = compared(0.01, "--json")
    assert faster.returncode == 0, faster.stderr
    assert [row["verdict"] for row in json.loads(faster.stdout)["rows"]] == ["faster", "faster"]


def test_what_cannot_be_measured_is_refused_with_a_reason(server, tmp_path):
    for arguments, status, said in [
        ((*SMALL, "--depths", "100000"), 1, "nothing could be measured"),
        (("--prompt", "0", "--tokens", "0"), 2, "a prompt or an answer must have tokens"),
        (("--model", "nowhere"), 3, "the model nowhere is not installed"),
        (("--repeats", "0"), 2, "0 is not in 1..=100"),
        (("--compare", str(tmp_path / "nowhere")), 3, "nowhere"),
        (("--compare", str(server.config)), 2, "allerac bench --json > FILE"),
    ]:
        done = bench(server, *arguments)
        assert (done.returncode, said in done.stderr) == (status, True), (arguments, done.returncode, done.stderr)
    with server:
        done = bench(server, *SMALL)
        assert done.returncode == 4
        assert "stop the server, measure, and start it again" in done.stderr
