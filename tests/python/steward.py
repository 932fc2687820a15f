"""A box's system below a folder: the real steward behind its socket, as systemd runs it, and programs that only note how
they were called where a box would restart or erase itself."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import allerac

BINARY = allerac.BINARY.with_name("allerac-steward")
# What a real box's programs print, for those that print something.
PRINTS = {
    "systemctl show": "ActiveState=failed\\nExecMainCode=1\\nExecMainStatus=1\\n",
    "journalctl": "2026-11-22T05:00:00+0000 kernel: Linux\\n",
    "allerac update": "version 0.1.0.9 is there\\n",
}


class System:
    """Below `root`; its steward listens on `socket`."""

    def __init__(self, root: Path, *, version: str = "0.1.0.7"):
        self.root, self.socket, self.calls = root, root / "steward.sock", root / "calls"
        self.boot = root / "efi/EFI/Linux"
        for folder in (self.boot, root / "usr/lib", root / "var/lib/allerac", root / "var/lib/allerac-update", root / "bin"):
            folder.mkdir(parents=True)
        (root / "usr/lib/os-release").write_text(f"IMAGE_ID=allerac\nIMAGE_VERSION={version}\n")
        (self.boot / f"allerac_{version}.efi").touch()
        self.calls.touch()
        for program in ("systemctl", "journalctl", "bootctl", "allerac"):
            self.program(program)

    def program(self, name: str, *, does: str = ""):
        """What is run in place of a program of the system."""
        cases = "".join(f'"{call}"*) printf \'{text}\';;\n' for call, text in PRINTS.items())
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{does}\ncase "{name} $*" in\n{cases}esac\n')
        path.chmod(0o755)

    def called(self) -> list[str]:
        """How programs were called since this was asked last."""
        calls = self.calls.read_text().splitlines()
        self.calls.write_text("")
        return calls

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self):
        environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                command = [str(BINARY), "obey", "--root", str(self.root)]
                subprocess.run(command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL, env=environment)

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
