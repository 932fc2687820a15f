"""`allerac top`: once, as JSON, and on a terminal."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import termios
import time

import pytest

import allerac

STORY = "The glassblower practised every evening beside the harbour, and nobody ever complained. " * 12


def ask(client, **options):
    options = {"max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": STORY}]} | options
    return client.chat.completions.create(model=allerac.MODEL, **options)


def top(server, *arguments: str, check: bool = True):
    return server.cli("top", "--once", "--url", server.url, *arguments, check=check)


def test_top_shows_what_the_box_does(fresh):
    with fresh.client(fresh.create_key("anna")) as client:
        usage = ask(client).usage
        ask(client)
    allerac.wait_for("the engine told", lambda: '"requests"' in top(fresh, "--json").stdout)
    # Without a key and before anybody owns the box: whoever may read its data may look.
    figures = json.loads(top(fresh, "--json").stdout)
    model = next(model for model in figures["models"] if model["model"] == allerac.MODEL)
    assert model["state"] == "ready"
    assert model["prompt_share"]["slot"] == 0.5 == model["prompt_share"]["computed"]
    assert model["kv_cells_kept"] >= usage.prompt_tokens
    assert model["requests"] == [
        {"class": name, "active": 0, "waiting": 0, "paused": 0} for name in ("batch", "chat", "voice")
    ]
    assert 0 < model["first_token"]["p50"] <= model["first_token"]["p95"] < 60
    lines = top(fresh).stdout.splitlines()
    assert f"{allerac.MODEL}  (ready)" in lines
    assert "  requests  0 active, 0 waiting, 0 paused" in lines
    assert "  prompts   50 % known: slot 50 %, copied 0 %, memory 0 %, disk 0 %" in lines
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in "".join(lines)


def test_top_shows_rates(fresh):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        running = ask(client, stream=True, max_tokens=3000, logit_bias=allerac.NEVER_END)
        next(iter(running))
        time.sleep(1.5)
        figures = json.loads(top(fresh, "--json").stdout)
        running.close()
    model = next(model for model in figures["models"] if model["model"] == allerac.MODEL)
    assert figures["requests_in_flight"] == 1
    assert model["requests"][1] == {"class": "chat", "active": 1, "waiting": 0, "paused": 0}
    assert model["output_tokens_per_second"] > 5
    assert model["kv_cells_active"] > 0


@pytest.mark.parametrize("end", [b"q", b"\x03", signal.SIGTERM])
def test_top_has_the_terminal_while_it_runs(fresh, end):
    process, terminal = pty.fork()
    if process == 0:
        os.execv(allerac.BINARY, [
            "allerac", "top", "--url", fresh.url, "--data-dir", str(fresh.data),
        ])  # fmt: skip
    resize(terminal, 24, 80)
    shown = Terminal(terminal)
    shown.wait(f"{allerac.MODEL}  (ready)")
    shown.wait("archive")
    assert "more below" not in shown.text
    # A smaller window is drawn anew, as far as it goes.
    resize(terminal, 5, 40)
    shown.wait("... more below")
    if isinstance(end, bytes):
        os.write(terminal, end)
    else:
        os.kill(process, end)
    shown.wait("\x1b[?1049l")
    assert os.waitpid(process, 0)[1] == 0
    assert shown.text.startswith("\x1b[?1049h\x1b[?25l"), "another screen, without a cursor"
    assert shown.text.endswith("\x1b[?25h\x1b[?1049l")
    os.close(terminal)


def resize(terminal: int, rows: int, columns: int):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    """What a program wrote to its terminal so far."""

    def __init__(self, terminal: int):
        os.set_blocking(terminal, False)
        self._terminal = terminal
        self.text = ""

    def wait(self, wanted: str):
        def probe():
            with contextlib.suppress(OSError):
                self.text += os.read(self._terminal, 65536).decode()
            return wanted in self.text

        allerac.wait_for(f"the terminal shows {wanted!r}", probe)


def test_top_says_what_opens_the_box(fresh, tmp_path):
    owner, member = fresh.claim(), fresh.create_key("anna")
    assert allerac.MODEL in top(fresh, "--key", owner).stdout
    for arguments, hint in [
        (("--key", member), "use a key of the box's owner"),
        (("--data-dir", str(tmp_path)), "name the server's own --data-dir"),
    ]:
        done = allerac.cli("top", "--once", "--url", fresh.url, *arguments, check=False)
        assert done.returncode != 0 and done.stdout == ""
        assert hint in done.stderr, done.stderr
    assert not (tmp_path / "box.key").exists(), "looking makes nothing"
    done = fresh.cli("top", "--once", "--url", "http://192.0.2.1:8080", check=False)
    assert done.returncode == 2 and "another machine needs a key" in done.stderr
    fresh.stop()
    done = top(fresh, check=False)
    assert done.returncode == 1 and "no server answers" in done.stderr and "allerac serve" in done.stderr
