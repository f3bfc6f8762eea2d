"""uv: the settings it gets, and how its errors are parsed."""

from __future__ import annotations

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uv
from finetune_compat.contract.errors import ExitCode, InstallError
from finetune_compat.stacks import uv_tool
from finetune_compat.stacks.uv_tool import Answer, install_environ, lock_environ, one_line, run_uv
from hypothesis import given
from hypothesis import strategies as st

NO_SOLUTION = "error: No solution found when resolving dependencies\n  cause: Because a\n         and b.\n\nhint: try c"


class TestWhatReachesUv:
    def test_pips_find_links_are_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv does not read pip's settings, which are separated by blanks; uv's are separated by commas."""
        monkeypatch.delenv("UV_FIND_LINKS", raising=False)
        monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
        assert install_environ()["UV_FIND_LINKS"] == "/a,/b"

    def test_settings_of_uv_take_precedence_over_pips(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The two are not mixed."""
        monkeypatch.setenv("UV_FIND_LINKS", "/mine")
        monkeypatch.setenv("PIP_FIND_LINKS", "/a")
        assert install_environ()["UV_FIND_LINKS"] == "/mine"

    def test_pips_configuration_file_is_read_where_the_variable_is_not_set(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """pip itself is asked, because it knows where its files are."""
        pip = tmp_path / "pip"
        pip.write_text("#!/bin/sh\ntest \"$*\" = 'config get global.find-links' && echo /from/file\n")
        pip.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.delenv("UV_FIND_LINKS", raising=False)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        assert install_environ()["UV_FIND_LINKS"] == "/from/file"

    def test_without_settings_nothing_is_passed_on(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without pip or its settings, uv uses the registry."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("UV_FIND_LINKS", raising=False)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        assert "UV_FIND_LINKS" not in install_environ()

    def test_a_lock_does_not_depend_on_this_machines_wheels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does not depend on a user's cut-off date either."""
        for name in ("UV_FIND_LINKS", "UV_EXCLUDE_NEWER", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"):
            monkeypatch.setenv(name, "x")
        assert (
            not {"UV_FIND_LINKS", "UV_EXCLUDE_NEWER", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"} & lock_environ().keys()
        )


class TestComplaints:
    def test_an_error_is_one_line_without_progress_and_hints(self) -> None:
        """uv's output before the error and its advice after it are in the log."""
        said = f"Using Python 3.11.7 environment at: /env\nwarning: old\n{NO_SOLUTION}"
        assert one_line(said) == "No solution found when resolving dependencies cause: Because a and b."

    def test_an_empty_error_is_reported_as_empty(self) -> None:
        """No message is empty."""
        assert one_line("") == "uv gave no reason"

    @given(st.text())
    def test_a_line_is_always_one_line_and_never_empty(self, complaint: str) -> None:
        """This holds for any output of uv."""
        assert one_line(complaint)
        assert "\n" not in one_line(complaint)

    @pytest.mark.parametrize(
        ("answer", "unreachable", "unsolvable"),
        [
            (Answer(0, "", ""), False, False),
            (Answer(1, "", NO_SOLUTION), False, True),
            (
                Answer(1, "", f"{NO_SOLUTION}\nhint: Packages were unavailable because the network was disabled."),
                True,
                False,
            ),
            (Answer(2, "", "error: Request failed after 3 retries\n  cause: client error (Connect)"), True, False),
            (Answer(2, "", "error: No space left on device (os error 28)"), False, False),
        ],
    )
    def test_only_a_complete_resolution_can_be_unsolvable(
        self, answer: Answer, unreachable: bool, unsolvable: bool
    ) -> None:
        """Without a network nothing is known, and other errors are neither."""
        assert (answer.unreachable, answer.unsolvable) == (unreachable, unsolvable)


class TestUv:
    def test_the_uv_this_project_depends_on_is_the_one_that_runs(self) -> None:
        """Another uv on the path is not used."""
        answer = run_uv(["--version"], environ={})
        assert answer.ok
        assert uv_tool._uv() == uv.find_uv_bin()

    def test_an_error_holds_no_secret(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv gets the URL with its password and may repeat it; its errors are stored in rows, locks and logs."""
        stand_in = tmp_path / "uv"
        stand_in.write_text('#!/bin/sh\necho "error: Failed to fetch $UV_DEFAULT_INDEX" >&2\nexit 2\n')
        stand_in.chmod(0o755)
        monkeypatch.setattr(uv_tool, "_uv", lambda: str(stand_in))
        answer = run_uv(["pip", "compile"], environ={"UV_DEFAULT_INDEX": "https://user:Zq7xW2vKp9@example.com/simple"})
        assert answer.complaint == "error: Failed to fetch https://REDACTED@example.com/simple" and answer.unreachable

    def test_a_missing_uv_is_one_message(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The message says what uv is for and how to install it."""

        def missing() -> str:
            raise FileNotFoundError

        monkeypatch.setattr(uv, "find_uv_bin", missing)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InstallError) as caught:
            uv_tool._uv.__wrapped__()
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert str(caught.value).splitlines()[1:] == [
            "uv makes the locks and the environments of all stacks.",
            "Install this project with its dependencies, which include uv: `pip install -e '.[host]'`.",
        ]


ANSWERS = {
    "a login page": (200, "text/html", b"<html>Please log in</html>"),
    "garbage": (200, "text/html", b"\x00\xff garbage"),
    "JSON of something else": (200, "application/vnd.pypi.simple.v1+json", b'{"x": 1}'),
    "not found": (404, "text/plain", b""),
    "forbidden": (403, "text/plain", b""),
    "unauthorized": (401, "text/plain", b""),
    "an error": (500, "text/plain", b""),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_registry_that_lies_is_out_of_reach(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had the locked file when the lock was made: the machine fails, and neither the lock nor the disk."""
    status, content_type, body = ANSWERS[kind]

    class Lies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Lies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "UV_FIND_LINKS", "UV_INDEX", "UV_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        (tmp_path / "lock.txt").write_text(f"trl==0.22.2 --hash=sha256:{'0' * 64}\n")
        answer = run_uv(
            [
                *("pip", "install", "--dry-run", "--require-hashes", "--no-deps", "--python", sys.executable),
                *("--requirements", str(tmp_path / "lock.txt"), "--target", str(tmp_path / "there")),
            ],
            environ=os.environ,
        )
        server.shutdown()
    assert not answer.ok
    assert answer.unreachable or answer.lacking, answer.complaint
