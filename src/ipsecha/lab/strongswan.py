"""A real strongSwan as peer: charon in a namespace of its own, with its own userspace ESP (kernel-libipsec).

Configuration and keys are files in one directory, loaded with ``swanctl --load-all`` as an operator would; commands
and state go over the VICI socket.  See docs/interop.md for what Debian's strongSwan can do and its quirks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, cast

from ipsecha.lab.daemon import Daemon
from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.pki import Credential
from ipsecha.lab.processes import LabError, run, tail
from ipsecha.lab.vici import Section, Vici

CHARON = Path("/usr/lib/ipsec/charon")
LIBIPSEC = Path("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")

# kernel-libipsec goes before kernel-netlink: the first one registers the IPsec interface, the second the network's.
# openssl alone brings every algorithm of the matrix in docs/interop.md.
PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 pubkey x509 revocation constraints kdf "
    "kernel-libipsec kernel-netlink socket-default vici updown counters"
)

# What swanctl looks into; it complains about each that is missing.
_DIRECTORIES = ("x509", "x509ca", "x509ocsp", "x509aa", "x509ac", "x509crl")
_KEY_DIRECTORIES = ("pubkey", "private", "rsa", "ecdsa", "bliss", "pkcs8", "pkcs12")


def available() -> str | None:
    """None where strongSwan can run here, otherwise the reason why not."""
    if not CHARON.exists() or shutil.which("swanctl") is None:
        return "strongSwan (packages strongswan-charon, strongswan-swanctl) is not installed"
    if not LIBIPSEC.exists():
        return "strongSwan's userspace ESP (package libcharon-extra-plugins) is not installed"
    return None if Path("/dev/net/tun").exists() else "strongSwan's userspace ESP needs /dev/net/tun"


def render(section: Section, indent: int = 0) -> str:
    """A section in the syntax of strongswan.conf and swanctl.conf."""
    lines: list[str] = []
    margin = "  " * indent
    for name, value in section.items():
        if isinstance(value, dict):
            lines += [f"{margin}{name} {{", render(value, indent + 1) + f"{margin}}}"]
        else:
            text = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"{margin}{name} = {_quote(text)}")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    if any(character in text for character in ' #{}="'):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


def child(local_ts: Sequence[str], remote_ts: Sequence[str], esp: str = "default", **options: str) -> Section:
    """A child SA's section; ``options`` are swanctl's keys."""
    return {
        "local_ts": list(local_ts),
        "remote_ts": list(remote_ts),
        "esp_proposals": esp,
        "rekey_time": "0",
        **options,
    }


def connection(
    local: tuple[str, str],
    remote: tuple[str, str],
    children: dict[str, Section],
    *,
    auth: str = "psk",
    ike: str = "default",
    certificate: str = "",
    **options: str,
) -> Section:
    """A connection's section.  ``local`` and ``remote`` are (address, identity); ``auth`` psk or pubkey;
    ``certificate`` the name that the credential was added under."""
    near: Section = {"auth": auth, "id": local[1]}
    if certificate:
        near["certs"] = f"{certificate}.pem"
    return {
        "version": "2",
        "local_addrs": local[0],
        "remote_addrs": remote[0],
        "proposals": ike,
        "encap": "yes",
        "mobike": "no",
        "rekey_time": "0",
        "local": near,
        "remote": {"auth": auth, "id": remote[1]},
        "children": cast("Section", children),
        **options,
    }


class StrongSwan(Daemon):
    """One charon.

    ``directory`` (made if missing) takes configuration, keys, log and socket.  ``settings`` are merged into the
    ``charon`` section of strongswan.conf.
    """

    log_lines = 150

    def __init__(self, namespace: Namespace, directory: Path, settings: Section | None = None) -> None:
        self.console = directory / "console.log"
        super().__init__(f"strongSwan in {namespace.role}", self.console, directory / "charon.log")
        self.namespace = namespace
        self.directory = directory
        self.socket = directory / "charon.vici"
        self.connections: Section = {}
        self.secrets: Section = {}
        self._settings = settings or {}

    def __enter__(self) -> Self:
        self._write_settings()
        return super().__enter__()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Each daemon sees a /var/run of its own: its pid file and sockets meet nobody else's.
        script = f"mount -t tmpfs tmpfs /var/run && exec {CHARON}"
        return self.namespace.start(
            ["unshare", "-m", "sh", "-c", script],
            self.console,
            {"STRONGSWAN_CONF": str(self.directory / "strongswan.conf")},
        )

    def restart(self) -> None:
        """Starts the killed daemon again with the same configuration; it remembers no SA."""
        self.start()
        self.load()

    def _write_settings(self) -> None:
        for name in (*_DIRECTORIES, *_KEY_DIRECTORIES):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        charon: Section = {
            "load": PLUGINS,
            "threads": "16",
            "retransmit_timeout": "0.5",
            "retransmit_tries": "6",
            "retry_initiate_interval": "0",
            "delete_rekeyed_delay": "1",
            "plugins": {"vici": {"socket": f"unix://{self.socket}"}, "kernel-libipsec": {"allow_peer_ts": "yes"}},
            "filelog": {"file": {"path": str(self.log), "flush_line": "yes", "default": "1", "enc": "1", "ike": "2"}},
            **self._settings,
        }
        (self.directory / "strongswan.conf").write_text(render({"charon": charon}))

    def _serves(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            with Vici(self.socket, 2.0) as vici:
                vici.call("version")
        except LabError:
            return False
        return True

    def add_secret(self, secret: str, *identities: str) -> None:
        """A pre-shared key for these identities (of both sides)."""
        owners: Section = {f"id{number}": identity for number, identity in enumerate(identities)}
        self.secrets[f"ike{len(self.secrets)}"] = {**owners, "secret": secret}

    def add_authority(self, name: str, certificate: bytes) -> None:
        """A CA certificate (PEM) that is trusted."""
        (self.directory / "x509ca" / f"{name}.pem").write_bytes(certificate)

    def add_credential(self, name: str, credential: Credential) -> None:
        """Our own certificate with its key and the intermediates up to the root."""
        (self.directory / "x509" / f"{name}.pem").write_bytes(credential.certificate)
        key = self.directory / "private" / f"{name}.pem"
        key.touch(mode=0o600)
        key.write_bytes(credential.private_key)
        for number, certificate in enumerate(credential.intermediates):
            (self.directory / "x509ca" / f"{name}-{number}.pem").write_bytes(certificate)

    def load(self) -> None:
        """Loads connections, secrets and certificates, replacing what was loaded before."""
        path = self.directory / "swanctl.conf"
        path.touch(mode=0o600)
        path.write_text(render({"connections": self.connections, "secrets": self.secrets}))
        environment = {"SWANCTL_DIR": str(self.directory), "STRONGSWAN_CONF": str(self.directory / "strongswan.conf")}
        argv = ["swanctl", "--load-all", "--clear", "--file", str(path), "--uri", f"unix://{self.socket}"]
        done = run(argv, environment=environment)
        if "failed" in done.stdout + done.stderr:
            raise LabError(f"swanctl --load-all:\n{done.stdout}{done.stderr}\n{path.read_text()}")

    def initiate(self, child_name: str, connection_name: str = "", timeout_s: float = 15.0) -> None:
        """Brings a child SA up and waits for it.  Raises LabError with the daemon's log of the attempt."""
        arguments: Section = {"child": child_name, "timeout": str(int(timeout_s * 1000)), "loglevel": "1"}
        if connection_name:
            arguments["ike"] = connection_name
        self._logged("initiate", arguments, timeout_s)

    def initiate_ike(self, connection_name: str, timeout_s: float = 15.0) -> None:
        """Brings an IKE SA up without a child SA."""
        arguments: Section = {"ike": connection_name, "timeout": str(int(timeout_s * 1000)), "loglevel": "1"}
        self._logged("initiate", arguments, timeout_s)

    def rekey_ike(self, connection_name: str) -> None:
        self._command("rekey", {"ike": connection_name})

    def rekey_child(self, child_name: str) -> None:
        self._command("rekey", {"child": child_name})

    def terminate_ike(self, connection_name: str, timeout_s: float = 10.0) -> None:
        self._logged("terminate", {"ike": connection_name, "timeout": str(int(timeout_s * 1000))}, timeout_s)

    def terminate_child(self, child_name: str, timeout_s: float = 10.0) -> None:
        self._logged("terminate", {"child": child_name, "timeout": str(int(timeout_s * 1000))}, timeout_s)

    def sas(self, connection_name: str = "") -> list[Section]:
        """The IKE SAs, each with its ``child-sas``; each has its configuration's name under ``name``."""
        arguments: Section = {"ike": connection_name} if connection_name else {}
        found: list[Section] = []
        with Vici(self.socket) as vici:
            for event in vici.stream("list-sas", "list-sa", arguments):
                found += [{"name": name, **value} for name, value in event.items() if isinstance(value, dict)]
        return found

    def children(self, name: str = "") -> list[Section]:
        """The child SAs of all IKE SAs (or those of that name): dictionaries as in ``swanctl --list-sas --raw``."""
        return [found for sa in self.sas() for found in _children(sa) if name in ("", found.get("name"))]

    def wait_for(self, what: str, condition: str, timeout_s: float = 10.0) -> Section:
        """Waits until a child SA ``what`` is in the state ``condition`` (as INSTALLED); returns it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for found in self.children(what):
                if found.get("state") == condition:
                    return found
            if time.monotonic() > deadline:
                raise LabError(f"strongSwan's child SA {what} is not {condition}: {self.sas()}\n{tail(self.log)}")
            time.sleep(0.05)

    def stats(self) -> Section:
        """The daemon's ``stats`` (number of IKE SAs, workers, memory)."""
        with Vici(self.socket) as vici:
            return vici.call("stats")

    def _command(self, command: str, arguments: Section) -> None:
        with Vici(self.socket) as vici:
            vici.call(command, arguments)

    def _logged(self, command: str, arguments: Section, timeout_s: float) -> None:
        lines: list[str] = []
        try:
            with Vici(self.socket, timeout_s + 5) as vici:
                for event in vici.stream(command, "control-log", arguments):
                    lines.append(str(event.get("msg", "")))  # kept one by one: the stream may end with an error
        except LabError as error:
            raise LabError(f"{error}\n" + "\n".join(lines)) from None


def _children(sa: Section) -> Iterator[Section]:
    children = sa.get("child-sas", {})
    if isinstance(children, dict):
        yield from (found for found in children.values() if isinstance(found, dict))


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
