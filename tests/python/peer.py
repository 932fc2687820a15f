"""An independent llama.cpp server on the same model file: the published PyPI package `xllamacpp`.

It runs in a process of its own. Called as a program, this file *is* that process: it prints the address
it listens on, and lives until its standard input closes.
"""

import json
import subprocess
import sys
from pathlib import Path

import httpx

START_SECONDS_MAX = 60


class Peer:
    """A running peer; a context manager."""

    def __init__(
        self, model: Path, *, threads: int, context: int, slots: int, name: str = "", key: str = "", embeds: bool = False
    ):
        """Of a name that the model has, and a key that it asks for, where there are any."""
        options = [name, key, *["embeds"] * embeds]
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(model), str(threads), str(context), str(slots), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = self._process.stdout.readline()
        if not line.startswith("http://"):
            raise RuntimeError(f"the llama.cpp server did not start: exit status {self._process.wait()}")
        self.url = line.strip()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=START_SECONDS_MAX)

    def post(self, path: str, **body) -> dict:
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def render(self, messages: list[dict]) -> str:
        """The text that the model's own chat template makes of a conversation."""
        return self.post("/apply-template", messages=messages)["prompt"]

    def tokenise(self, text: str, *, special: bool) -> list[int]:
        return self.post("/tokenize", content=text, add_special=True, parse_special=special)["tokens"]

    def tokenise_prompt(self, prompt: str | list[dict]) -> list[int]:
        """The tokens of a text, or of a conversation."""
        if isinstance(prompt, str):
            return self.tokenise(prompt, special=False)
        return self.tokenise(self.render(prompt), special=True)

    def greedy(self, prompt: list[int], tokens: int, *, alternatives: int = 0) -> dict:
        """The most likely continuation of a prompt given as tokens."""
        return self.post(
            "/completion",
            prompt=prompt,
            n_predict=tokens,
            temperature=0,
            cache_prompt=False,
            return_tokens=True,
            n_probs=alternatives,
        )

    def close(self):
        self.http.close()
        self._process.stdin.close()
        self._process.wait(timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main(model: str, threads: int, context: int, slots: int, name: str = "", key: str = "", embeds: str = ""):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = 0
    params.n_ctx = context
    params.n_parallel = slots
    params.kv_unified = True
    if name:
        params.model_alias = {name}
    if key:
        params.api_keys = [key]
    params.embedding = bool(embeds)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # The server's threads would keep the interpreter alive.
    import os

    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:])
