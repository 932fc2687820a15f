"""From the flashed disk to the first answer, and what stays of it. Each test prints what it measured."""

import json
import struct
import subprocess
import time

import httpx
import pytest

from machine import Machine, image, overlay

MODEL = "smollm2-135m-instruct"
ANSWER_TOKENS = 8
SYSCTLS = {
    "kernel/kptr_restrict": 2,
    "kernel/dmesg_restrict": 1,
    "kernel/yama/ptrace_scope": 2,
    "kernel/unprivileged_bpf_disabled": 1,
    "kernel/kexec_load_disabled": 1,
    "kernel/sysrq": 0,
    "net/core/bpf_jit_harden": 2,
    "net/ipv4/conf/all/rp_filter": 1,
    "net/ipv4/conf/all/accept_redirects": 0,
    "fs/protected_fifos": 2,
    "fs/protected_regular": 2,
    "vm/mmap_rnd_bits": 32,
    "kernel/panic_on_oops": 1,
}
"""What the kernel is told, as it must have understood it."""
TELL_SCORES = """[Unit]
Description=Tells the tests how confined the services are, and what failed
After=allerac.service allerac-console.service systemd-networkd.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'for u in allerac allerac-console allerac-health allerac-emergency; do systemd-analyze security --no-pager $u.service | \
sed -n "s/.*Overall exposure level for \\([a-z.-]*\\): \\([0-9.]*\\).*/exposure-\\1=\\2/p"; done; \
echo failed-units=[$(systemctl --failed --no-legend --plain | cut -d " " -f 1)]; \
echo open-ports=$(nft list chain inet filter input | grep -c dport); \
echo lockdown=$(cat /sys/kernel/security/lockdown); \
cd /proc/sys; echo sysctls=$(for s in @SYSCTLS@; do echo $s=$(cat $s); done); cd /; \
echo usr-writable=$(touch /usr/x 2>/dev/null && echo yes || echo no)'
""".replace("@SYSCTLS@", " ".join(SYSCTLS))
TELL_SCREEN = """[Unit]
Description=Tells the tests what the screen shows
After=allerac-console.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'for i in $(seq 150); do grep -aq "allerac.local" /dev/vcs1 && break; sleep 2; done; \
echo screen=$(tr -cd "[:print:]" < /dev/vcs1 | tr -s " ")'
"""
TELL_BOOKS = """[Unit]
Description=Tells the tests what the ledger has, and how long the server took to be there
Requires=allerac.service
After=allerac.service
[Service]
Type=oneshot
User=allerac
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'echo up-us=$(systemctl show -P ActiveEnterTimestampMonotonic allerac.service); \
echo verified=$(allerac ledger verify --data-dir /var/lib/allerac 2>&1 | tr "\\n" " "); \
echo usage=$(allerac usage --by user --json --data-dir /var/lib/allerac | tr -d "\\n ")'
"""
DAMAGE_LEDGER = """[Unit]
Description=Damages the ledger, where there is one
ConditionPathExists=/var/lib/allerac/ledger.db
Before=allerac.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cd /var/lib/allerac; rm -f ledger.db-wal ledger.db-shm; yes damaged | head -c 20000 > ledger.db'
"""
TELL_EMERGENCY = """[Unit]
Description=Tells the tests what the emergency page leaves for the screen
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'for i in $(seq 300); do [ -s /run/allerac-emergency/screen ] && break; sleep 2; done; \
echo emergency=$(cat /run/allerac-emergency/screen)'
"""
UNITS = {"tell-scores.service": TELL_SCORES, "tell-screen.service": TELL_SCREEN, "tell-books.service": TELL_BOOKS}


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    disk = overlay(image(), folder / "disk.qcow2")
    with Machine(folder, disk, units=UNITS) as machine:
        machine.spent = []
        yield machine


@pytest.fixture(scope="module")
def key(box):
    """The owner's key: the box is claimed with the code that its screen shows."""
    began = time.monotonic()
    box.wait_http()
    print(f"\nfirst /healthz {time.monotonic() - began:.0f} s after the machine was switched on")
    print(f"of these from the kernel's start to the server's: {int(box.wait_line('up-us=')) / 1e6:.0f} s")
    code = box.wait_line("claim-code=")
    # The screen has it only until somebody used it.
    box.screen = box.wait_line("screen=")
    answer = httpx.post(f"{box.url}/claim", json={"code": code, "owner": "olga"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


def chat(box, key) -> int:
    """Asks; how many tokens were charged for it."""
    request = {"model": MODEL, "prompt": "1, 2, 3, 4,", "max_tokens": ANSWER_TOKENS, "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{box.url}/v1/completions", json=request, headers=headers, timeout=600)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-allerac-served-by"] == "local"
    assert answer.json()["choices"][0]["text"].startswith(" 5, 6")
    tokens = answer.json()["usage"]["total_tokens"]
    box.spent.append(tokens)
    return tokens


def books(box) -> tuple[int, int]:
    """Requests and tokens of the owner, as the ledger had them when the box started."""
    assert box.wait_line("verified=").startswith("the ledger adds up: ")
    rows = [row for row in json.loads(box.wait_line("usage=")) if row["user"] == "olga"]
    return sum(row["requests"] for row in rows), sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)


def test_it_answers_with_the_model_that_it_brings(box, key):
    box.wait_http("/readyz")
    began = time.monotonic()
    chat(box, key)
    print(f"the first answer took {time.monotonic() - began:.0f} s")


def test_a_neighbour_finds_it_by_its_name(box, key):
    began = time.monotonic()
    assert box.neighbour.resolve("allerac.local") == ["10.0.2.15"]
    print(f"allerac.local was answered after {time.monotonic() - began:.1f} s")


def test_it_is_closed_but_for_what_it_serves(box, key):
    for unit, most in {"allerac": 1.2, "allerac-console": 1.2, "allerac-health": 1.2, "allerac-emergency": 1.2}.items():
        score = float(box.wait_line(f"exposure-{unit}.service="))
        print(f"{unit}: exposure {score}")
        assert score <= most
    assert box.wait_line("failed-units=") == "[]"
    assert box.wait_line("open-ports=") == "4"
    assert "[integrity]" in box.wait_line("lockdown=")
    assert box.wait_line("sysctls=").split() == [f"{name}={value}" for name, value in SYSCTLS.items()]
    assert box.wait_line("usr-writable=") == "no"


def test_its_owner_sees_the_system_and_reads_its_log(box, key):
    headers = {"Authorization": f"Bearer {key}"}
    told = httpx.get(f"{box.url}/v1/admin/system", headers=headers, timeout=60).json()
    assert (told["is_box"], told["previous"]) == (True, None)
    log = httpx.get(f"{box.url}/v1/admin/system/logs", headers=headers, timeout=120)
    assert log.status_code == 200, log.text
    assert "kernel: Linux version" in log.text and key not in log.text
    print(f"\nversion {told['version']}; the log has {len(log.text.splitlines())} lines")


def test_its_screen_says_where_it_is(box, key, tmp_path):
    print(f"screen: {box.screen}")
    assert "http://allerac.local" in box.screen and "http://10.0.2.15" in box.screen
    assert f"Claim code {box.wait_line('claim-code=')}" in box.screen
    picture = tmp_path / "screen.png"
    box.screenshot(picture)
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width >= 640 and height >= 400


def test_a_reboot_keeps_keys_and_ledger(box, key):
    chat(box, key)
    began = time.monotonic()
    box.press_power()
    print(f"\nit shut down in {time.monotonic() - began:.0f} s")
    box.start()
    box.wait_http("/readyz")
    assert books(box) == (len(box.spent), sum(box.spent))
    chat(box, key)


def test_a_power_cut_keeps_the_books(box, key):
    """An answer whose end was told is in the ledger, to the token, whatever happens in the next moment."""
    tokens = chat(box, key)
    box.cut_power()
    box.start()
    box.wait_http("/readyz")
    print(f"\nthe {tokens} tokens of the last moment are in the ledger")
    assert books(box) == (len(box.spent), sum(box.spent))
    chat(box, key)


def test_a_damaged_ledger_brings_the_emergency_page_and_the_box_can_forget_everything(box, key):
    box.press_power()
    box.units |= {"damage-ledger.service": DAMAGE_LEDGER, "tell-emergency.service": TELL_EMERGENCY}
    box.start()
    began = time.monotonic()
    shown = json.loads(box.wait_line("emergency="))
    print(f"\nthe emergency page was there {time.monotonic() - began:.0f} s after the machine was switched on")
    assert "keeps its books is damaged" in shown["says"]
    page = httpx.get(box.url, timeout=120)
    assert (page.status_code, shown["says"] in page.text, "ledger" in page.text) == (503, True, False)
    assert httpx.get(f"{box.url}/healthz", timeout=120).status_code == 503
    act = lambda **form: httpx.post(box.url, data=form, timeout=120)
    assert act(act="logs", code="AAAA-AAAA").status_code == 403
    assert "the ledger is damaged" in act(act="logs", code=shown["code"]).text
    erased = act(act="factory_reset", code=shown["code"], confirm="erase everything")
    assert erased.status_code == 200, erased.text
    began = time.monotonic()
    assert box.wait_http("/claim").json()["claimed"] is False
    print(f"it can be claimed again {time.monotonic() - began:.0f} s after it was told to forget everything")


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
        machine.wait("the kernel's refusal", lambda: "is corrupted" in machine.said())
        began = time.monotonic()
        # Nobody can log in to mend it: it tries again.
        machine.wait("the next try", lambda: machine.said().count("BdsDxe: starting") > 1)
        print(f"\nit tried again {time.monotonic() - began:.0f} s after the refusal")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{machine.url}/healthz", timeout=5)
