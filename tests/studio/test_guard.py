"""Who is answered: both sides of every check, on every kind of path."""

from __future__ import annotations

import socket

import pytest

PATHS = ["/", "/api/recordings", "/api/frames/b-long?start=0&stop=1", "/assets/main.js", "/nothing"]
NO = None  # a header that is not sent


@pytest.mark.parametrize("path", PATHS)
def test_without_token_nothing_is_answered(studio, path: str) -> None:
    join = "&" if "?" in path else "?"
    cases = {
        "neither": ("", NO),
        "empty": (f"{join}token=", NO),
        "wrong": (f"{join}token={'x' * len(studio.token)}", NO),
        "short": (f"{join}token={studio.token[:-1]}", NO),
        "twice": (f"{join}token={studio.token}&token={studio.token}", NO),
        "not ascii": (f"{join}token=%ff%c3%a9", NO),
        "wrong beside a good cookie": (f"{join}token=x", f"fmfbench_studio_{studio.port}={studio.token}"),
        "cookie of another port": ("", f"fmfbench_studio_1={studio.token}"),
        "wrong cookie": ("", f"fmfbench_studio_{studio.port}=x"),
    }
    for what, (query, cookie) in cases.items():
        status, headers, body = studio.ask(path + query, Cookie=cookie)
        assert status == 403, what
        assert b"token" in body
        assert "set-cookie" not in headers


@pytest.mark.parametrize("path", PATHS)
def test_the_token_in_the_address_sets_the_cookie_that_then_suffices(studio, path: str) -> None:
    expected = 404 if path == "/nothing" else 200
    join = "&" if "?" in path else "?"
    status, headers, _ = studio.ask(f"{path}{join}token={studio.token}", Cookie=NO)
    assert status == expected
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, headers, _ = studio.ask(path, Cookie=f"other=1; {cookie.partition(';')[0]}")
    assert status == expected
    assert "set-cookie" not in headers


GOOD_HOSTS = [
    "127.0.0.1:{port}",
    "localhost:{port}",
    "LOCALHOST:{port}",
    "[::1]:{port}",
    "127.0.0.1",
    "localhost:9",
]
BAD_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "localhost.",
    "192.168.1.7:{port}",
    "2130706433",
    "[::ffff:8.8.8.8]:{port}",
    "",
    "127.0.0.1@evil.example",
]


def test_hosts(studio) -> None:
    for host in GOOD_HOSTS:
        assert studio.ask("/api/about", Host=host.format(port=studio.port))[0] == 200, host
    for host in BAD_HOSTS:
        assert studio.ask("/api/about", Host=host.format(port=studio.port))[0] == 403, host


def test_no_host_and_two_hosts_are_refused(studio) -> None:
    cookie = f"Cookie: fmfbench_studio_{studio.port}={studio.token}\r\n"
    own = f"Host: localhost:{studio.port}\r\n"
    for lines, good in ((own, True), ("", False), (own + "Host: evil.example\r\n", False)):
        with socket.create_connection(("127.0.0.1", studio.port), timeout=10) as connection:
            connection.sendall(f"GET /api/about HTTP/1.0\r\n{lines}{cookie}\r\n".encode())
            answer = connection.recv(65536)
        assert (b" 200 " in answer.splitlines()[0]) is good, lines


def test_origins_and_fetch_sites(studio) -> None:
    own = f"http://127.0.0.1:{studio.port}"
    good = [{}, {"Origin": own}, {"Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}]
    good.append({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"})  # a link in a report
    bad = [
        {"Origin": origin}
        for origin in (
            "null",
            "",
            "http://evil.example",
            f"https://127.0.0.1:{studio.port}",
            f"http://localhost:{studio.port}",
            "http://127.0.0.1:1",
            own + ".evil.example",
        )
    ]
    bad += [{"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"} for site in ("cross-site", "same-site")]
    for headers in good:
        assert studio.ask("/api/about", **headers)[0] == 200, headers
    for headers in bad:
        assert studio.ask("/api/about", **headers)[0] == 403, headers


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../api.py",
        "/assets/%2e%2e/api.py",
        "/assets/..%2fapi.py",
        "/assets/..%5capi.py",
        "/assets//etc/passwd",
        "/assets/%00",
        "/api/frames/..%2f..%2f..%2fetc%2fpasswd",
        "/api/masks/b-long?layer=../../video&start=0&stop=1",
        "/api/margin/b-long?layer=../labels/source&frame=0",
        "/etc/passwd",
        "/../../etc/passwd",
    ],
)
def test_nothing_outside_is_served(studio, path: str) -> None:
    status, _, body = studio.ask(path)
    assert status in (400, 404) or body == b""
    assert b"root:" not in body
    assert b"import" not in body


def test_every_answer_keeps_foreign_content_out(studio) -> None:
    for path in ("/", "/api/about", "/nothing"):
        for cookie in (f"fmfbench_studio_{studio.port}={studio.token}", NO):
            headers = studio.ask(path, Cookie=cookie)[1]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers
            assert "access-control-allow-origin" not in headers


def test_read_only_has_nothing_that_writes(studio) -> None:
    assert studio.json("/api/about")["read_only"] is True
    for path in ("/api/keyframes/b-long", "/api/apply", "/api/resolve", "/api/read"):
        assert studio.ask(path, {"base": 0, "tracks": []})[0] in (404, 405), path


def test_other_methods_are_refused(studio) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert studio.ask("/api/recordings", method=method)[0] == 405, method
