"""The control socket: what a client gets, and what a hostile one cannot do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecha.gateway import control
from ipsecha.gateway.control import ControlClient, ControlError, ControlServer, DaemonUnreachable
from ipsecha.gateway.views import (
    ChildView,
    ClusterView,
    LeaseView,
    SasView,
    SaView,
    StatusView,
    as_answer,
    from_answer,
)
from ipsecha.model.errors import PolicyError

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs unix sockets")


async def handle(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if command == "initiate":
        raise ControlError("not-found", 'no connection "pariss"')
    if command == "reload":
        raise PolicyError("policy.toml:3: wrong")
    if command == "stop":
        raise RuntimeError("secret detail")
    if command == "rekey":
        await asyncio.sleep(3600)
    return {"command": command, "arguments": arguments}


def serve(path: Path, test: Callable[[], Any], **options: Any) -> Any:
    """Run the server in a loop, and ``test`` (synchronous) beside it in a thread."""

    async def run() -> Any:
        server = ControlServer(path, handle, **options)
        await server.start()
        try:
            return await asyncio.to_thread(test)
        finally:
            await server.stop()

    return asyncio.run(run())


def serve_async(path: Path, test: Callable[[ControlServer], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        server = ControlServer(path, handle)
        await server.start()
        try:
            return await test(server)
        finally:
            await server.stop()

    return asyncio.run(run())


def raw(path: Path, data: bytes) -> bytes:
    """What the server says to raw octets until it hangs up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def test_request_and_answer(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def test() -> list[dict[str, Any]]:
        with ControlClient(path) as client:
            return [client.request("status"), client.request("sas", connection="paris", limit=3)]

    answers = serve(path, test)
    assert answers[0] == {"command": "status", "arguments": {}}
    assert answers[1] == {"command": "sas", "arguments": {"connection": "paris", "limit": 3}}
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("initiate", "not-found", 'no connection "pariss"'),
        ("reload", "failed", "policy.toml:3: wrong"),
        ("stop", "internal", "stop failed in an unexpected way: see the log"),
        ("format-disk", "unknown-command", "expected one of status, sas"),
    ],
)
def test_errors_reach_the_client_and_the_server_goes_on(tmp_path: Path, command: str, code: str, message: str) -> None:
    path = tmp_path / "control.sock"

    def test() -> None:
        with ControlClient(path) as client:
            with pytest.raises(ControlError) as caught:
                client.request(command)
            assert caught.value.code == code
            assert caught.value.message.startswith(message)
            assert client.request("status")["command"] == "status"

    serve(path, test)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"command": 7}\n',
        b'{"command": "status", "arguments": []}\n',
        b'{"command": "status", "extra": 1}\n',
        b"\xff\xfe\n",
        b'"' + b"\\ud800" * 3 + b'"\n',
        b"[" * 60000 + b"\n",
        b'{"command":"status","arguments":{"a":' + b"[" * 20000 + b"]" * 20000 + b"}}\n",
    ],
)
def test_malformed_requests_get_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "control.sock"
    answer = serve(path, lambda: raw(path, line + b'{"command":"status"}\n'))
    first, second = (json.loads(each) for each in answer.splitlines())
    assert first["error"]["code"] == "malformed"
    assert second["ok"]


def test_request_without_end_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    answer = serve(path, lambda: raw(path, b"x" * (control.MAX_REQUEST * 4)))
    assert answer == b"" or json.loads(answer)["error"]["code"] == "too-large"


def test_unfinished_line_is_no_request(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    assert serve(path, lambda: raw(path, b'{"command":"status"}')) == b""


def test_silent_client_is_hung_up_on(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def test() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(path))
            return connection.recv(1)

    assert serve(path, test, client_timeout_s=0.05) == b""


def test_clients_are_bounded_in_number(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def test() -> None:
        with ControlClient(path) as first, ControlClient(path) as second:
            first.request("status")
            second.request("status")
            with ControlClient(path) as third, pytest.raises(ControlError) as caught:
                third.request("status")
            assert caught.value.code == "busy" or isinstance(caught.value, DaemonUnreachable)
            assert first.request("status")["command"] == "status"

    serve(path, test, max_clients=2)


def test_stop_hangs_up_on_a_client_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def test(server: ControlServer) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"command":"rekey"}\n')
        await writer.drain()
        await asyncio.sleep(0.05)
        await server.stop()
        answer = await reader.read()
        writer.close()
        return answer

    assert serve_async(path, test) == b""


def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "control.sock"
    assert stat.S_IMODE(serve(path, path.stat).st_mode) == 0o660


def test_group(tmp_path: Path) -> None:
    import grp

    path = tmp_path / "control.sock"
    group = grp.getgrgid(os.getgid())
    assert serve(path, path.stat, group=group.gr_name).st_gid == group.gr_gid
    with pytest.raises(ControlError, match="does not exist"):
        serve(path, path.stat, group="no-such-group-here")


def test_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with pytest.raises(DaemonUnreachable, match="has died"):
        ControlClient(path)

    def test() -> Any:
        with ControlClient(path) as client:
            return client.request("status")["command"]

    assert serve(path, test) == "status"


def test_living_daemon_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def test(_: ControlServer) -> None:
        with pytest.raises(ControlError, match="another daemon listens"):
            await ControlServer(path, handle).start()
        assert path.exists()

    serve_async(path, test)


def test_other_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content")
    with pytest.raises(ControlError, match="is no socket"):
        serve(path, lambda: None)
    assert path.read_text() == "content"


def test_unreachable_daemon_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match=r"no daemon listens on .*nothing\.sock"):
        ControlClient(tmp_path / "nothing.sock")
    with pytest.raises(DaemonUnreachable, match="cannot connect"):
        ControlClient(tmp_path / ("x" * 200))


def test_daemon_that_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    for said, expected in ((b"hello\n", "makes no sense"), (b'{"ok":false}\n', "no reason"), (b"", "hung up")):
        with socket.socket(socket.AF_UNIX) as listener:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
            with ControlClient(path, timeout_s=5) as client:
                accepted, _ = listener.accept()
                accepted.sendall(said)
                accepted.shutdown(socket.SHUT_WR)
                with pytest.raises(ControlError, match=expected):
                    client.request("status")
                accepted.close()


def test_views_survive_the_way_and_other_versions(tmp_path: Path) -> None:
    status = StatusView("alpha", "0.1.0", 3.5, ClusterView("berlin", role="active", epoch=17), 2, counters={"x": 1})
    assert from_answer(json.loads(json.dumps(as_answer(status))), StatusView) == status
    lease = LeaseView(5, 9, 7, 300, 4)
    sas = SasView((SaView("paris", children=(ChildView("lan", lease=lease),)),), 1)
    assert from_answer(json.loads(json.dumps(as_answer(sas))), SasView) == sas
    assert from_answer({"member": "beta", "something_new": [1]}, StatusView) == StatusView("beta")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=200), max_size=5))
def test_any_octets_get_an_error_or_nothing(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "control.sock"
    answer = serve(path, lambda: raw(path, b"\n".join(lines) + b'\n{"command":"status"}\n'))
    answers = [json.loads(each) for each in answer.splitlines()]
    assert answers[-1] == {"ok": True, "result": {"command": "status", "arguments": {}}}
    assert all(each["error"]["code"] == "malformed" for each in answers[:-1])
