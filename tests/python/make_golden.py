"""Writes golden.json anew from the peer. Run by hand when prompts are added:

    tests/.venv/bin/python tests/python/make_golden.py

Greedy decoding follows the larger of two logits, and two builds of llama.cpp (instruction sets, batch
shapes) differ in the last digits. So a prompt is taken only when, at every step, the best token leads the
second by at least `MARGIN` nats; measured differences between builds are below 0.05.
"""

import json
from pathlib import Path

import allerac
from peer import Peer

GOLDEN = Path(__file__).with_name("golden.json")
MARGIN = 0.2

PROMPTS = [
    ("counting", "text", "1, 2, 3, 4, 5, 6, 7,", 64),
    ("words for numbers", "text", "One two three four five six", 64),
    ("markup", "text", "<html>\n<head>", 32),
    ("japanese", "chat", "日本の首都はどこですか？", 64),
    ("code", "chat", "Write JSON with keys a, b and c.", 32),
    ("ends by itself", "chat", "List the months of the year.", 64),
    ("prose", "chat", "Describe water boiling.", 32),
]


def record(peer: Peer, name: str, kind: str, text: str, tokens_max: int) -> dict:
    if kind == "chat":
        prompt = peer.tokenise(peer.render([{"role": "user", "content": text}]), special=True)
    else:
        prompt = peer.tokenise(text, special=False)
    answer = peer.greedy(prompt, tokens_max, alternatives=2)
    steps = answer["completion_probabilities"]
    margin = min(step["top_logprobs"][0]["logprob"] - step["top_logprobs"][1]["logprob"] for step in steps)
    assert margin >= MARGIN, f"{name}: the best token leads by {margin:.3f} only"
    steps = [step for step in steps if step["token"] or step["bytes"]]
    return {
        "name": name,
        "kind": kind,
        "prompt": text,
        "max_tokens": tokens_max,
        "prompt_ids": prompt,
        "ids": [step["id"] for step in steps],
        "bytes": [bytes(step["bytes"]).hex() for step in steps],
        "finish_reason": {"eos": "stop", "limit": "length"}[answer["stop_type"]],
    }


if __name__ == "__main__":
    with Peer(allerac.MODEL_FILE, threads=1, context=16384, slots=1) as peer:
        records = [record(peer, *prompt) for prompt in PROMPTS]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in records)
    GOLDEN.write_text(f"[\n{lines}\n]\n")
