"""From the flashed disk to the first answer, and what stays of it. Each test prints what it measured."""

import subprocess
import time

import httpx
import pytest

from machine import Machine, image, overlay

MODEL = "smollm2-135m-instruct"
TELL_SCORES = """[Unit]
Description=Tells the tests how confined the services are, and what failed
After=allerac.service allerac-console.service systemd-networkd.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'for u in allerac allerac-console; do systemd-analyze security --no-pager $u.service | \
sed -n "s/.*Overall exposure level for \\([a-z.-]*\\): \\([0-9.]*\\).*/exposure-\\1=\\2/p"; done; \
echo failed-units=$(systemctl --failed --no-legend --plain | wc -l); \
echo open-ports=$(nft list chain inet filter input | grep -c dport); \
echo lockdown=$(cat /sys/kernel/security/lockdown); \
echo usr-writable=$(touch /usr/x 2>/dev/null && echo yes || echo no)'
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    disk = overlay(image(), folder / "disk.qcow2")
    with Machine(folder, disk, units={"tell-scores.service": TELL_SCORES}) as machine:
        yield machine


@pytest.fixture(scope="module")
def key(box):
    """The owner's key: the box is claimed with the code that its screen shows."""
    began = time.monotonic()
    box.wait_http()
    print(f"healthz after {time.monotonic() - began:.0f} s")
    code = box.wait_line("claim-code=")
    answer = httpx.post(f"{box.url}/claim", json={"code": code, "owner": "olga"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


def chat(box, key) -> str:
    request = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    answer = httpx.post(f"{box.url}/v1/chat/completions", json=request, headers={"Authorization": f"Bearer {key}"}, timeout=600)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    return answer.json()["choices"][0]["message"]["content"]


def test_it_answers_with_the_model_that_it_brings(box, key):
    box.wait_http("/readyz")
    began = time.monotonic()
    assert chat(box, key)
    print(f"first answer took {time.monotonic() - began:.0f} s")


def test_it_is_closed_but_for_what_it_serves(box, key):
    assert float(box.wait_line("exposure-allerac.service=")) <= 1.2
    assert float(box.wait_line("exposure-allerac-console.service=")) <= 1.2
    assert box.wait_line("failed-units=") == "0"
    assert box.wait_line("open-ports=") == "4"
    assert "[integrity]" in box.wait_line("lockdown=")
    assert box.wait_line("usr-writable=") == "no"


def test_its_screen_says_where_it_is(box, key, tmp_path):
    picture = tmp_path / "screen.png"
    box.screenshot(picture)
    assert picture.stat().st_size > 1000
    print(f"screen: {picture}")


def test_a_power_cut_loses_nothing_acknowledged(box, key):
    chat(box, key)
    box.cut_power()
    box.start()
    box.wait_http("/readyz")
    assert chat(box, key)
    usage = httpx.get(f"{box.url}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    assert [model["id"] for model in usage.json()["data"]] == [MODEL]


def test_a_system_that_was_changed_on_disk_is_refused(tmp_path):
    """One byte in each piece of /usr is another one: the kernel refuses to read it, and nothing is served."""
    raw = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", str(image()), str(raw)], check=True)
    table = subprocess.run(["sfdisk", "--dump", str(raw)], capture_output=True, text=True, check=True).stdout
    usr = next(line for line in table.splitlines() if "8484680C-9521-48C6-9C11-B0720656F69E" in line)
    start = int(usr.split("start=")[1].split(",")[0]) * 512
    with raw.open("r+b") as disk:
        for place in range(0, 64 * 2**20, 4096):
            disk.seek(start + place + 100)
            byte = disk.read(1)
            disk.seek(start + place + 100)
            disk.write(bytes([byte[0] ^ 1]))
    with Machine(tmp_path, overlay(raw, tmp_path / "disk.qcow2")) as machine:
        machine.wait("the kernel's refusal", lambda: "verity" in machine.serial.read_text(errors="replace").lower() and
                     any(word in machine.serial.read_text(errors="replace") for word in ("is corrupted", "failed to mount", "Failed to mount", "Dependency failed", "emergency")))
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{machine.url}/healthz", timeout=5)
