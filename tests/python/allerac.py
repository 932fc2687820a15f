"""Runs the real programs: `allerac serve` in a process of its own, the command line beside it."""

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import httpx
import openai

REPOSITORY = Path(__file__).resolve().parents[2]
# Every commit of every ledger in these tests is checked.
os.environ["ALLERAC_CHECK_BOOKS"] = "1"
BINARY = Path(os.environ.get("ALLERAC_BINARY", REPOSITORY / "target/release/allerac"))
TEST_DATA = Path(os.environ.get("ALLERAC_TEST_DATA", REPOSITORY / ".cache/test-data"))

MODEL = "smollm2-135m-instruct"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_FILE = TEST_DATA / "models/blobs" / f"sha256-{MODEL_SHA256}"
CONTEXT = 4096
# Tests must not announce themselves on the network of the machine they run on. One thread, because two that
# wait for each other by spinning crawl whenever a test's own clients keep a core busy; the results are the same.
COMMON_CONFIG = "[mdns]\nenabled = false\n[engine]\nthreads = 1\n"
# The model's end-of-turn and end-of-text tokens: banned where a test needs an answer that goes on.
NEVER_END = {"0": -100, "2": -100}

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20


def wait_for(what: str, probe, seconds: float = 15.0):
    """Polls until `probe` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def data_dir(path: Path) -> Path:
    """A fresh data directory with the test model in it; the file is shared, not copied."""
    if not MODEL_FILE.exists():
        raise FileNotFoundError(f"{MODEL_FILE} is missing; fetch it: make test-model")
    shutil.copytree(TEST_DATA / "models", path / "models", copy_function=link_or_copy)
    return path


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class Server:
    """`allerac serve` on a free port of the loopback interface."""

    def __init__(self, data: Path, *, config: str = "", arguments: tuple[str, ...] = (), wrapper: tuple[str, ...] = ()):
        self.data = data
        self.arguments = arguments
        self.wrapper = wrapper
        self.config = data.parent / f"{data.name}.toml"
        self.config.write_text(COMMON_CONFIG + config)
        self.process = None
        self.url = None
        self._lines = []

    def command(self, listen: str = "127.0.0.1:0") -> list[str]:
        return [
            *self.wrapper, str(BINARY), "serve", "--listen", listen, "--data-dir", str(self.data),
            "--config", str(self.config), *self.arguments,
        ]  # fmt: skip

    def start(self, *, ready: bool = True) -> "Server":
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        addresses = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, addresses), daemon=True).start()
        try:
            address = addresses.get(timeout=START_SECONDS_MAX)
        except queue.Empty:
            address = None
        if address is None:
            raise AssertionError(f"the server printed no address:\n{self.log}")
        self.url = address
        if ready:
            self.wait_ready()
        return self

    def _read(self, output, addresses):
        for line in output:
            self._lines.append(line)
            found = re.search(r"http://(?:127\.0\.0\.1|localhost):([1-9]\d*)", line)
            if found:
                addresses.put(f"http://127.0.0.1:{found[1]}")
        addresses.put(None)

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        """The router's process, also behind a wrapper."""
        return self.process.pid

    def wait_ready(self, status: int = 200) -> dict:
        def probe():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with status {self.process.returncode}:\n{self.log}")
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"{self.url}/readyz")
                return answer if answer.status_code == status else None

        return wait_for(f"/readyz answers {status}", probe, START_SECONDS_MAX).json()

    def kill(self):
        """Power off the router, as far as a process can be."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=STOP_SECONDS_MAX)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop when asked to:\n{self.log}") from None

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, kind, *_):
        if kind is not None:
            print(f"--- log of the server in {self.data}\n{self.log}---")
        if self.process and self.process.poll() is None:
            self.kill()

    def engine_pids(self) -> list[int]:
        """The processes of the engines, children of the router."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        pids = set()
        for task in children.parent.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):
                pids.update(map(int, (task / "children").read_text().split()))
        return sorted(pids)

    # The command line, beside the running server.

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return cli(*arguments, "--data-dir", str(self.data), check=check)

    def create_key(self, user: str = "tester", *arguments: str) -> str:
        return self.cli("keys", "create", "--user", user, *arguments).stdout.strip()

    def usage(self) -> list[dict]:
        return json.loads(self.cli("usage", "--json").stdout)

    def totals(self) -> dict:
        """Requests and tokens over all of the usage."""
        rows = self.usage()
        counted = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
        return {name: sum(row[name] for row in rows) for name in counted}

    def claim(self, owner: str = "olga") -> str:
        """Makes somebody the owner of the box; their key."""
        code = re.search(r"Claim code +(\S+)", self.log)[1]
        with self.http() as http:
            answer = http.post("/claim", json={"code": code, "owner": owner})
        answer.raise_for_status()
        return answer.json()["key"]

    # Clients.

    def client(self, key: str, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120, **options)

    def http(self, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)


def cli(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [str(BINARY), *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    if check and done.returncode != 0:
        raise AssertionError(f"allerac {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


class Books:
    """The ledger's file, read independently of the program that writes it."""

    def __init__(self, data: Path):
        self._database = sqlite3.connect(f"file:{data / 'ledger.db'}?mode=ro", uri=True, timeout=10)

    def rows(self, query: str, *values) -> list[tuple]:
        return self._database.execute(query, values).fetchall()

    def open_reservations(self) -> int:
        return self.rows("SELECT count(*) FROM reservations")[0][0]

    def outcomes(self) -> list[tuple]:
        """What each settled request cost and how it ended, in the order of settling."""
        return self.rows("SELECT outcome, prompt_tokens, completion_tokens FROM usage ORDER BY id")

    def settled(self, requests: int, seconds: float = 15.0) -> list[tuple]:
        """Waits until so many requests are settled and none is open, and returns `outcomes()`."""
        wait_for(
            f"{requests} settled requests, none open",
            lambda: self.open_reservations() == 0 and len(self.outcomes()) == requests,
            seconds,
        )
        self.check()
        return self.outcomes()

    def check(self):
        """Every balance is what its usage rows and open reservations add up to; nothing is counted twice."""
        wrong = self.rows(
            """
            WITH entries AS (
                SELECT 'user:' || user_id AS account, month, user_charge AS used, 0 AS reserved FROM usage
                UNION ALL SELECT 'key:' || key_id, month, key_charge, 0 FROM usage WHERE key_account
                UNION ALL SELECT 'user:' || user_id, month, 0, tokens FROM reservations
                UNION ALL SELECT 'key:' || key_id, month, 0, key_tokens FROM reservations WHERE key_account
                UNION ALL SELECT account, month, -used, -reserved FROM balances
            )
            SELECT account, month, sum(used), sum(reserved) FROM entries
            GROUP BY account, month HAVING sum(used) <> 0 OR sum(reserved) <> 0
            """
        )
        assert wrong == []
        twice = self.rows("SELECT request_id FROM usage GROUP BY request_id HAVING count(*) > 1")
        assert twice == []

    def close(self):
        self._database.close()
