"""Writes docs/compatibility.md."""

import datetime
import importlib.metadata

import environments
from notes import note
from outcome import Outcome
from suites import Suite

FILE = environments.REPOSITORY / "docs/compatibility.md"

HEAD = """# Which clients work

Independent suites and clients, run against the built product and, with the same model file, against llama.cpp's own
server. The model is SmolLM2 with 135 million parameters: what is tested is the server, not what a model can do. Where a
client's point is what it does with calls (agents, loops), a scripted model stands behind the router as another server
would, and wants them; llama.cpp's server is not asked those, and has no such row or fewer tests in it.

Each number is of tests that passed, of those that apply. A test does not apply where its own suite skips it: it needs
pictures, sound or PDF documents, or something that the API in question does not have.

Measured on {date}; llama.cpp as in xllamacpp {peer}. `make compatibility` runs it all again and writes this page (about
half an hour on two cores).

| suite | versions | Allerac | llama.cpp's server |
|---|---|---|---|
"""


def write(outcomes: dict[tuple[Suite, str], Outcome]):
    rows = [(suite, ours, outcomes.get((suite, "peer"))) for (suite, side), ours in outcomes.items() if side == "ours"]
    text = HEAD.format(date=datetime.date.today().isoformat(), peer=importlib.metadata.version("xllamacpp"))
    for suite, ours, peer in rows:
        names = [f"{name} {environments.version(name, suite.environment, suite.kind)}" for name in suite.versions]
        text += f"| {suite.name} | {', '.join(names)} | {ours} | {peer or 'not asked'} |\n"
    text += "\n## What does not pass here, and why\n\n"
    failed = [(suite, name) for suite, ours, _ in rows for name in ours.failed]
    for suite, name in failed:
        text += f"- {suite.key}, `{name}`: {note(suite.key, name)}\n"
    text += "\nWhat llama.cpp's server does not pass, `make compatibility` lists as it runs.\n" if failed else ""
    if not failed:
        text += "Nothing.\n"
    text += "\n## What was left out\n\n"
    for suite, ours, _ in rows:
        # The same reason once for all tests that it is given for.
        reasons = dict.fromkeys(ours.left_out.values())
        for reason in reasons:
            count = sum(other == reason for other in ours.left_out.values())
            text += f"- {suite.key}: {count} ({reason or 'without a reason'})\n"
    FILE.write_text(text)
    print(f"wrote {FILE.relative_to(environments.REPOSITORY)}")
