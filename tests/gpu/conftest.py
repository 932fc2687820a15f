"""A graphics processor that is none: Mesa's software driver (lavapipe), which llama.cpp takes for one when it is told to."""

import os

import pytest

import allerac

DRIVER = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
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
    """Starts servers of a test's own."""
    started = []

    def start(name="data", config=""):
        server = allerac.Server(allerac.data_dir(tmp_path / name), config=config)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        if server.process and server.process.poll() is None:
            server.kill()


@pytest.fixture
def box(start):
    server = start()
    server.key = server.create_key("anna")
    return server
