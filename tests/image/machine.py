"""A virtual machine that boots the image: no acceleration, so that it runs anywhere; its screen, its power switch."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

OVMF = Path("/usr/share/OVMF")
START_SECONDS_MAX = 900
"""Boots take two minutes on an idle machine without acceleration, and many times that on a busy one."""

TELL_CODE = """[Unit]
Description=Tells the tests the claim code
Requires=allerac.service
After=allerac.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'echo claim-code=$(cat /run/allerac/claim-code)'
"""
"""Nobody logs in to a box. What tests want to know, a unit tells that this virtual machine's firmware brings along."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def overlay(image: Path, disk: Path, size: str = "8G") -> Path:
    """A disk that begins as the image and keeps its own changes."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(disk), size]
    subprocess.run(command, check=True)
    return disk


class Machine:
    """One disk, one network card, one screen. A context manager that pulls the plug at its end."""

    def __init__(self, folder: Path, disk: Path, *, units: dict[str, str] | None = None):
        self.folder, self.disk = folder, disk
        self.units = {"tell-code.service": TELL_CODE, **(units or {})}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.serial = folder / "serial.log"
        self._process = None
        self._variables = folder / "variables.fd"
        shutil.copy(OVMF / "OVMF_VARS_4M.fd", self._variables)

    def start(self):
        self.serial.write_text("")
        (self.folder / "control").unlink(missing_ok=True)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)

    def _command(self) -> list[str]:
        return [
            "qemu-system-x86_64", "-machine", "q35,smm=off", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-smp", "2", "-m", "2048", "-display", "none", "-vga", "std",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
            "-drive", f"if=pflash,format=raw,unit=1,file={self._variables}",
            "-drive", f"if=none,id=disk,format=qcow2,file={self.disk}", "-device", "nvme,drive=disk,serial=box",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:80", "-device", "virtio-net-pci,netdev=net",
            "-device", "virtio-rng-pci", "-serial", f"file:{self.serial}",
            "-qmp", f"unix:{self.folder}/control,server,nowait", "-smbios", self._credentials(),
        ]  # fmt: skip

    def _credentials(self) -> str:
        """Units that systemd takes from the firmware, each wanted by the target of an ordinary boot."""
        wants = "[Unit]\nWants=" + " ".join(self.units) + "\n"
        credentials = {f"systemd.extra-unit.{name}": text for name, text in self.units.items()}
        credentials["systemd.unit-dropin.multi-user.target"] = wants
        paths = []
        for number, (name, text) in enumerate(credentials.items()):
            path = self.folder / f"credential-{number}"
            encoded = base64.b64encode(text.encode()).decode()
            path.write_text(f"io.systemd.credential.binary:{name}={encoded}")
            paths.append(f"path={path}")
        return "type=11," + ",".join(paths)

    def wait(self, what: str, done, seconds: float = START_SECONDS_MAX):
        """Waits until `done` gives something true; that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the machine stopped while we waited for {what}: {self._qemu_log()}")
            found = done()
            if found:
                return found
            time.sleep(1)
        tail = self.serial.read_text(errors="replace")[-4000:]
        raise TimeoutError(f"{what} did not come within {seconds} s; the machine said last:\n{tail}")

    def wait_http(self, path: str = "/healthz") -> httpx.Response:
        def ask():
            try:
                answer = httpx.get(self.url + path, timeout=10)
            except httpx.HTTPError:
                return None
            return answer if answer.status_code == 200 else None

        return self.wait(f"GET {path}", ask)

    def wait_line(self, begins: str) -> str:
        """The rest of the line of the serial console that begins so."""

        def find():
            for line in self.serial.read_text(errors="replace").splitlines():
                if line.startswith(begins) and len(line) > len(begins):
                    return line[len(begins) :].strip()
            return None

        return self.wait(f"a line {begins!r}", find)

    def screenshot(self, path: Path):
        """What the screen shows, as a PNG."""
        self._control("screendump", filename=str(path), format="png")

    def press_power(self):
        """Asks the system to shut down, and waits until it has."""
        self._control("system_powerdown")
        self._process.wait(timeout=START_SECONDS_MAX)

    def cut_power(self):
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _control(self, command: str, **arguments):
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / "control"))
            stream = control.makefile("rw")
            json.loads(stream.readline())
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                if "error" in answer:
                    raise RuntimeError(answer["error"])

    def _qemu_log(self) -> str:
        return (self.folder / "qemu.log").read_text(errors="replace")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.cut_power()


def image() -> Path:
    """The image to test: the youngest that was built."""
    folder = Path(os.environ.get("ALLERAC_IMAGES", Path(__file__).parents[2] / "target/image"))
    images = sorted(folder.glob("allerac_*.raw"), key=lambda path: path.stat().st_mtime)
    images = [path for path in images if path.name.count(".raw") == 1 and ".usr" not in path.name and ".esp" not in path.name]
    if not images:
        raise FileNotFoundError(f"there is no image in {folder}; build one: image/build.sh --profile virtual")
    return images[-1]
