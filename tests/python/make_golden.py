"""Writes golden.json anew from the peer. Run by hand when prompts are added:

    tests/.venv/bin/python tests/python/make_golden.py

Greedy decoding follows the larger of two logits. Activations are rounded to eight bits in between, so two
builds of llama.cpp that add in another order (instruction sets, flash attention or not) differ by 0.2 nats in
the median and more at times, and a model this small is often undecided by less. So a prompt is taken only when,
at every step, the best token leads the second by at least `MARGIN` nats.
"""

import json
from pathlib import Path

import allerac
from peer import Peer

GOLDEN = Path(__file__).with_name("golden.json")
MARGIN = 0.8


def turns(*texts: str, system: str | None = None) -> list[dict]:
    """A conversation: the user first, then in turns."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


LIST = "1. Rome\n2. Milan\n3. Naples\n4. Turin\n5. Palermo\n6. Genoa\n7. Bologna\n8. Florence"

PROMPTS = [
    ("counting", "1, 2, 3, 4, 5, 6, 7,", 64),
    ("tens", "10, 20, 30, 40, 50, 60,", 64),
    ("umlauts", "Größe Größe Größe Größe Größe Größe", 64),
    ("parts of characters", "日本 日本 日本 日本 日本 日本", 64),
    ("code", "SELECT a FROM t;\nSELECT b FROM t;\nSELECT c FROM t;\nSELECT d FROM t;\n", 48),
    ("a list in a chat", turns("Cities?", LIST, "Cities?", LIST, "Cities?"), 64),
    ("a system prompt", turns("red", '{"colour": "red"}', "blue", '{"colour": "blue"}', "green",
        '{"colour": "green"}', "yellow", system="Answer in JSON."), 32),
    ("repetition", turns("Größe", "Größe", "Straße", "Straße", "Äpfel und Öl", "Äpfel und Öl", "Übung macht süß",
        system="Du wiederholst, was man dir sagt."), 32),
]  # fmt: skip


def record(peer: Peer, name: str, prompt: str | list[dict], tokens_max: int) -> dict:
    prompt_ids = peer.tokenise_prompt(prompt)
    answer = peer.greedy(prompt_ids, tokens_max, alternatives=2)
    steps = answer["completion_probabilities"]
    margin = min(step["top_logprobs"][0]["logprob"] - step["top_logprobs"][1]["logprob"] for step in steps)
    assert margin >= MARGIN, f"{name}: the best token leads by {margin:.3f} only"
    ended = answer["stop_type"] == "eos"
    ids = answer["tokens"][:-1] if ended else answer["tokens"]
    pieces = peer.post("/tokenize", content=answer["content"], add_special=False, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == ids
    return {
        "name": name,
        "prompt": prompt,
        "max_tokens": tokens_max,
        "prompt_ids": prompt_ids,
        "ids": ids,
        "bytes": [raw(piece["piece"]).hex() for piece in pieces],
        "finish_reason": "stop" if ended else "length",
    }


def raw(piece: str | list[int]) -> bytes:
    """A part of a character comes as a list of bytes."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)


if __name__ == "__main__":
    with Peer(allerac.MODEL_FILE, threads=1, context=16384, slots=1) as peer:
        records = [record(peer, *prompt) for prompt in PROMPTS]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in records)
    GOLDEN.write_text(f"[\n{lines}\n]\n")
