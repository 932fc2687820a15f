"""Agents of the command line do a job: a file with a word in it. The model behind the box is scripted, the rest is not."""

import os
import subprocess
from pathlib import Path

import pytest

from where import AGENT, KEY, URL

TOOLS = Path(os.environ["COMPATIBILITY_TOOLS"])
PROMPT = "Write the word heureka into the file made.txt"
SECONDS_MAX = 240


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "made.txt").write_text("old\n")
    (tmp_path / "home").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def run(work: Path, *command: str, **more: str) -> str:
    """Runs an agent in a home of its own, with nothing of this machine's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = kept | {"HOME": str(work.parent / "home"), "TERM": "dumb", "IS_SANDBOX": "1"} | more
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def npm(program: str) -> str:
    found = TOOLS / "node_modules/.bin" / program
    assert found.exists(), f"{found} is missing"
    return str(found)


def test_claude_code(work):
    told = run(
        work, npm("claude"), "-p", PROMPT, "--model", AGENT, "--permission-mode", "bypassPermissions",
        ANTHROPIC_BASE_URL=URL, ANTHROPIC_AUTH_TOKEN=KEY, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        ANTHROPIC_SMALL_FAST_MODEL=AGENT,
    )  # fmt: skip
    assert (work / "made.txt").read_text() == "heureka" and "The tool said" in told


def test_codex(work):
    settings = {
        "model": f'"{AGENT}"', "model_provider": '"box"', "model_providers.box.name": '"box"',
        "model_providers.box.base_url": f'"{URL}/v1"', "model_providers.box.env_key": '"BOX_KEY"',
        "model_providers.box.wire_api": '"responses"',
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    told = run(work, npm("codex"), "exec", "--dangerously-bypass-approvals-and-sandbox", *options, PROMPT, BOX_KEY=KEY)
    assert (work / "made.txt").read_text() == "heureka" and "The tool said" in told


def test_qwen_code(work):
    told = run(work, npm("qwen"), "-y", "-p", PROMPT, OPENAI_BASE_URL=f"{URL}/v1", OPENAI_API_KEY=KEY, OPENAI_MODEL=AGENT)
    assert (work / "made.txt").read_text() == "heureka" and "The tool said" in told


def test_aider(work):
    run(
        work, str(TOOLS / "aider/bin/aider"), "--model", f"openai/{AGENT}", "--edit-format", "whole", "--yes-always",
        "--no-check-update", "--no-analytics", "--no-show-model-warnings", "--no-git", "--message", PROMPT, "made.txt",
        OPENAI_API_BASE=f"{URL}/v1", OPENAI_API_KEY=KEY,
    )  # fmt: skip
    assert (work / "made.txt").read_text().strip() == "heureka"


