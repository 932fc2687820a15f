"""What the box knows of its machine and of what models would do on it, on the command line and over the API."""

import json
import os
import time

import httpx
import pytest

import allerac
from allerac import wait_for

# It measures the machine the first time, beside other tests.
MEASURE_SECONDS_MAX = 100


@pytest.fixture
def box(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data")) as server:
        server.owner = server.claim()
        yield server


def asked(server, key, method, path):
    url = f"{server.url}{path}"
    return httpx.request(method, url, headers={"authorization": f"Bearer {key}"}, timeout=MEASURE_SECONDS_MAX)


def test_doctor_and_the_api_describe_this_machine(box):
    done = box.cli("doctor", "--config", str(box.config), "--listen", "127.0.0.1:0", "--json")
    report = json.loads(done.stdout)
    machine = report["machine"]
    cpuinfo = allerac.Path("/proc/cpuinfo").read_text()
    meminfo = allerac.Path("/proc/meminfo").read_text()
    assert f": {machine['processor']['model']}\n" in cpuinfo
    assert machine["memory_bytes"] == int(meminfo.split()[1]) * 1024
    assert machine["is_virtual"] == (" hypervisor " in cpuinfo)
    checks = {check["name"]: check for check in report["checks"]}
    assert {"memory modules", "profile", "threads"} <= checks.keys()
    # Each advice is a warning, and nothing else is.
    assert machine["modules"]["state"] in ("known", "denied", "untold")

    told = asked(box, box.owner, "GET", "/v1/admin/hardware").json()
    assert (told["object"], told["processor"]) == ("hardware", machine["processor"]["model"])
    assert told["memory_bytes"] == machine["memory_bytes"]
    # As the configuration of these tests says.
    assert told["threads"] == 1
    assert checks["profile"]["detail"].startswith(f"{told['profile']} (")
    assert 0 < told["model_memory_bytes"] < told["memory_bytes"]


def test_each_model_of_the_catalogue_has_a_verdict_with_its_reason(box):
    catalogue = asked(box, box.owner, "GET", "/v1/admin/models/catalogue").json()
    models = {model["id"]: model for model in catalogue["data"]}
    listed = json.loads(box.cli("models", "list", "--json").stdout)
    assert models.keys() == {model["id"] for model in listed}
    here = models[allerac.MODEL]
    assert here["installed"] and not models["llama-3.3-70b-instruct"]["installed"]
    # No box has memory for that in these tests; the sentence has both sizes.
    large = models["llama-3.3-70b-instruct"]
    if catalogue["memory_bytes"] < 40e9:
        assert large["outcome"]["verdict"] == "does not fit"
        assert large["outcome"]["reason"].startswith("it needs ") and " GiB, and models may have " in large["outcome"]["reason"]
    assert here["outcome"]["decode_tokens_per_second"] > large["outcome"]["decode_tokens_per_second"]
    # Free licences ask nothing.
    assert not here["asks_for_acceptance"] and large["asks_for_acceptance"]
    assert models["all-minilm-l6-v2"]["outcome"] is None
    measured = catalogue["measured"]
    assert all(rate["gigabytes_per_second"] > 0.1 for rate in measured["rates"])
    assert abs(measured["at"] - time.time()) < MEASURE_SECONDS_MAX

    # Asked again it is not measured again, unless that is asked.
    again = asked(box, box.owner, "GET", "/v1/admin/models/catalogue").json()
    assert again["measured"] == measured
    anew = asked(box, box.owner, "POST", "/v1/admin/models/catalogue").json()
    assert anew["measured"]["at"] >= measured["at"] and anew["data"][0]["id"] == catalogue["data"][0]["id"]


def test_models_are_listed_and_removed_by_who_may(box):
    member = box.create_key()
    for method, path in [
        ("GET", "/v1/admin/hardware"),
        ("GET", "/v1/admin/models"),
        ("GET", "/v1/admin/models/catalogue"),
        ("POST", "/v1/admin/models/catalogue"),
        ("DELETE", f"/v1/admin/models/{allerac.MODEL}"),
    ]:
        assert asked(box, member, method, path).status_code == 403, (method, path)

    def listed():
        return asked(box, box.owner, "GET", "/v1/admin/models").json()["data"]

    (model,) = wait_for("the default model in memory", lambda: [one for one in listed() if one["status"] == "loaded"], 60)
    size = os.stat(allerac.MODEL_FILE).st_size
    assert (model["id"], model["size_bytes"], model["is_default"]) == (allerac.MODEL, size, True)
    assert model["memory_bytes"] > 0 and model["kind"] == "chat"
    assert asked(box, box.owner, "DELETE", "/v1/admin/models/nowhere").status_code == 404
    assert asked(box, box.owner, "DELETE", f"/v1/admin/models/{allerac.MODEL}").status_code == 204
    assert listed() == []
    assert asked(box, box.owner, "GET", "/v1/models").json()["data"] == []
