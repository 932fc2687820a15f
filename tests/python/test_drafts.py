"""A draft model: configured by its id, tried, and never seen in an answer."""

from pathlib import Path

import allerac

PROMPT = "Water boils at a lower temperature on a mountain"
ASK = {"model": allerac.MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 48}


def answer(tmp_path, name: str, config: str) -> tuple[str, str, list[str]]:
    """What a server with this in `[engine]` answers, its log, and how its engine was started."""
    with allerac.Server(allerac.data_dir(tmp_path / name), config=config) as server:
        with server.http(server.create_key("anna")) as http:
            text = http.post("/v1/completions", json=ASK).json()["choices"][0]["text"]
        (engine,) = server.engine_pids()
        return text, server.log, Path(f"/proc/{engine}/cmdline").read_text().split("\0")


def test_the_model_as_its_own_draft_model(tmp_path):
    plain, _, command = answer(tmp_path, "plain", "speculate = false\n")
    assert "--draft-model" not in command
    own = f'drafts = {{ "{allerac.MODEL}" = "{allerac.MODEL}" }}\n'
    drafted, log, command = answer(tmp_path, "drafted", own)
    assert command[command.index("--draft-model") + 1] == command[command.index("--model") + 1]
    assert "draft model" not in log
    assert drafted == plain


def test_a_draft_model_that_is_missing_is_a_warning(tmp_path):
    _, log, command = answer(tmp_path, "missing", f'drafts = {{ "{allerac.MODEL}" = "tiny" }}\n')
    assert "answers without its draft model tiny, which is not installed" in log
    assert "correct [engine] drafts" in log
    assert "--draft-model" not in command
