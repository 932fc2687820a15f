"""Runs independent suites and clients against the built product and against llama.cpp's own server, with one model
file, and writes docs/compatibility.md.

    tests/.venv/bin/python tests/compatibility/run.py              all suites
    tests/.venv/bin/python tests/compatibility/run.py openai ...   some; the table stays as it is
    tests/.venv/bin/python tests/compatibility/run.py --write      the table anew, from the last run of each
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

import allerac  # noqa: E402
import environments  # noqa: E402
import outcome  # noqa: E402
import table  # noqa: E402
from peer import Peer  # noqa: E402
from suites import SUITES, Suite  # noqa: E402
from upstream import MODEL as AGENT  # noqa: E402
from upstream import Upstream  # noqa: E402

EMBEDDING = "all-minilm-l6-v2"
EMBEDDING_DATA = allerac.REPOSITORY / ".cache/test-embedding"
# One test may generate a few hundred tokens on a busy machine.
TEST_SECONDS_MAX = 300
SUITE_SECONDS_MAX = 1800
# Two threads that wait for each other by spinning crawl whenever a suite's own client keeps a core busy.
THREADS = 1
CONTEXT = 8192
PEER_KEY = "sk-peer"
SLOTS = 4
# A suite of thousands of checks may fail many for one reason.
FAILURES_TOLD_MAX = 40


def ours(stack: ExitStack) -> dict[str, str]:
    """The product, with a model that wants tools behind it; what suites are told of it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allerac-compatibility-")))
    upstream = stack.enter_context(Upstream())
    data = allerac.data_dir(folder / "data")
    allerac.shutil.copytree(
        EMBEDDING_DATA / "models", data / "models", copy_function=allerac.link_or_copy, dirs_exist_ok=True
    )
    config = f'threads = {THREADS}\n[[upstream]]\nname = "scripted"\nbase_url = "{upstream.url}/v1"\nmodels = ["{AGENT}"]\n'
    server = allerac.Server(data)
    server.config.write_text(f"[mdns]\nenabled = false\n[engine]\n{config}")
    stack.enter_context(server)
    key = server.create_key("tester", "--plan", "unlimited", "--allow-upstream", "all")
    return {"URL": server.url, "KEY": key, "AGENT": AGENT, "EMBEDDING": EMBEDDING}


def peers(stack: ExitStack) -> dict[str, str]:
    """llama.cpp's server on the same file, which has the same name there and needs a key, too."""
    options = {"threads": THREADS, "context": CONTEXT * SLOTS, "slots": SLOTS}
    peer = stack.enter_context(Peer(allerac.MODEL_FILE, name=allerac.MODEL, key=PEER_KEY, **options))
    return {"URL": peer.url.rstrip("/"), "KEY": PEER_KEY, "AGENT": "", "EMBEDDING": ""}


def run(suite: Suite, server: dict[str, str], report: Path):
    settings = {f"COMPATIBILITY_{name}": value for name, value in server.items()}
    settings |= {"COMPATIBILITY_MODEL": allerac.MODEL, "COMPATIBILITY_TOOLS": str(environments.CACHE / "tools")}
    # Nothing of these suites may ask the world for anything.
    settings |= {"LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "AI_SDK_LOG_WARNINGS": "false"}
    if suite.kind == "python":
        program = environments.python(suite.environment)
        command = [str(program), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS_MAX}",
                   "-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session", "--tb=short", f"--junitxml={report}", *suite.select]  # fmt: skip
        folder = HERE / "python"
    elif suite.kind == "program":
        command, folder = [sys.executable, str(HERE / suite.select[0]), str(report)], HERE
    else:
        folder = environments.node_modules("js")
        command = [environments.node(), "--test", "--test-concurrency=1", "--test-reporter=junit",
                   f"--test-reporter-destination={report}", *suite.select]  # fmt: skip
    with open(report.with_suffix(".log"), "w") as log:
        subprocess.run(
            command, cwd=folder, env=os.environ | settings, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, timeout=SUITE_SECONDS_MAX,
        )  # fmt: skip


def tools(suite: Suite):
    """The programs that a suite runs, where it looks for them."""
    folder = environments.CACHE / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    for name in suite.tools:
        if (HERE / name / "package.json").exists():
            source, link = environments.node_modules(name) / "node_modules", folder / "node_modules"
        else:
            source, link = environments.python(name).parents[1], folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(source)


def report(suite: Suite, side: str) -> Path:
    return environments.CACHE / "reports" / f"{suite.key}-{side}.xml"


def told(suite: Suite, side: str) -> outcome.Outcome:
    found = outcome.read(report(suite, side))
    print(f"{suite.key} {side}: {found}", flush=True)
    for name, why in list(found.failed.items())[:FAILURES_TOLD_MAX]:
        print(f"    {name}: {why}", flush=True)
    if len(found.failed) > FAILURES_TOLD_MAX:
        print(f"    and {len(found.failed) - FAILURES_TOLD_MAX} more", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="keys of suites: " + ", ".join(suite.key for suite in SUITES))
    parser.add_argument("--side", choices=["ours", "peer"], help="run only the product, or only llama.cpp's server")
    parser.add_argument("--write", action="store_true", help="write the table from the last run of every suite")
    chosen = parser.parse_args()
    unknown = set(chosen.suites) - {suite.key for suite in SUITES}
    if unknown:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    (environments.CACHE / "reports").mkdir(parents=True, exist_ok=True)
    servers = {"ours": ours, "peer": peers}
    runs = [(suite, side) for suite in SUITES for side in servers if side == "ours" or suite.peer]
    for suite, side in runs:
        wanted = suite.key in chosen.suites or not (chosen.suites or chosen.write)
        if not wanted or side != (chosen.side or side):
            continue
        tools(suite)
        # A server of its own for each suite: nothing that one leaves behind helps or hinders another.
        with ExitStack() as stack:
            run(suite, servers[side](stack), report(suite, side))
        told(suite, side)
    if chosen.write or not (chosen.suites or chosen.side):
        table.write({run: outcome.read(report(*run)) for run in runs})


if __name__ == "__main__":
    main()
