"""The examples in the documentation, as their readers run them."""

import os
import shutil
import subprocess
import sys

import allerac
import pytest

EXAMPLES = allerac.REPOSITORY / "docs/examples"
NODE_MODULES = allerac.REPOSITORY / "tests/js/node_modules"


def run(server, key, *command, **environment) -> str:
    variables = os.environ | environment | {"ALLERAC_URL": server.url, "ALLERAC_KEY": key}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(server, key):
    assert run(server, key, "sh", EXAMPLES / "chat.sh").strip()


def test_python(server, key):
    assert run(server, key, sys.executable, EXAMPLES / "chat.py").strip()


@pytest.mark.skipif(not (NODE_MODULES / "openai").exists(), reason="the JavaScript suite has not installed its clients")
def test_javascript(server, key, tmp_path):
    shutil.copy(EXAMPLES / "chat.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    assert run(server, key, "node", tmp_path / "chat.mjs").strip()


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_go(server, key, tmp_path):
    assert run(server, key, "go", "run", EXAMPLES / "chat.go", GOCACHE=str(tmp_path)).strip()


def test_rust(server, key):
    cargo = ["cargo", "run", "--quiet", "--release", "--locked", "-p", "allerac-example"]
    manifest = ["--manifest-path", allerac.REPOSITORY / "Cargo.toml"]
    assert run(server, key, *cargo, *manifest).strip()


def test_a_key_that_does_not_open_ends_an_example_with_an_error(server):
    with pytest.raises(AssertionError):
        run(server, "sk-allerac-wrong", "sh", EXAMPLES / "chat.sh")
