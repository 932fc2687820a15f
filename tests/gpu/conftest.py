"""A graphics processor that is none: Mesa's software driver (lavapipe), which llama.cpp takes for one when it is told to.

It takes about a second for a token of the whole test model, so most tests have a few layers on it only.
"""

import os

import pytest

import allerac

DRIVER = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
# Shaders that it compiled, for all servers of all runs.
SHADERS = allerac.REPOSITORY / ".cache/gpu-shaders"
MODULE = allerac.BINARY.parent.parent / "lib/allerac/gpu/libggml-vulkan.so"

os.environ["VK_ICD_FILENAMES"] = DRIVER
# It leaves out what is a processor unless somebody names it.
os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"


@pytest.fixture(scope="session", autouse=True)
def module():
    assert MODULE.exists(), f"{MODULE} is missing; build it: make gpu"
    assert os.path.exists(DRIVER), f"{DRIVER} is missing; install mesa-vulkan-drivers"
    return MODULE


@pytest.fixture
def start(tmp_path):
    """Starts servers of a test's own, with the test model or with the model in this file."""
    started = []

    def start(name="data", config="", model=None):
        data = allerac.data_dir(tmp_path / name)
        SHADERS.mkdir(parents=True, exist_ok=True)
        (data / "shaders").symlink_to(SHADERS)
        if model:
            allerac.cli("models", "import", str(model), "--data-dir", str(data))
            allerac.cli("models", "rm", allerac.MODEL, "--data-dir", str(data))
        server = allerac.Server(data, config=config)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        if server.process and server.process.poll() is None:
            server.kill()


@pytest.fixture
def box(start):
    """A server with a few layers on it."""
    server = start(config="gpu_layers = 3\n")
    server.key = server.create_key("anna")
    return server
