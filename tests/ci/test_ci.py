"""`.ci/run`: what it runs, that each failure is its own, and which skipped tests it lets pass."""

import ast
import os
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / ".ci"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout that holds nothing but .ci."""
    shutil.copytree(CI, tmp_path / "main/.ci")
    return tmp_path / "main"


# ---------------------------------------------------------------- skipped tests


def skipped(checkout: Path, tests: str) -> subprocess.CompletedProcess:
    """Run `tests` with pytest in the checkout, and the check on what it reports."""
    (checkout / "test_it.py").write_text("import pytest\n" + tests)
    report = checkout / "report.xml"
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        "test_it.py",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    subprocess.run(run, cwd=checkout, env=environment, capture_output=True)
    check = [sys.executable, str(checkout / ".ci/skips.py"), str(report)]
    return subprocess.run(check, capture_output=True, text=True)


SHARED = '@pytest.mark.skip(reason="needs ../shared (numbers), which is not here")\ndef test_golden(): pass\n'
WINDOWS = "def test_later():\n    pytest.skip('not today')\n"
PASSING = "def test_one(): pass\n"
EXPECTED_FAILURE = "@pytest.mark.xfail\ndef test_two(): assert 0\n"


def test_no_skip_passes(checkout):
    assert skipped(checkout, PASSING + EXPECTED_FAILURE).returncode == 0


def test_want_of_shared_is_a_reason_only_where_it_is_absent(checkout):
    assert skipped(checkout, PASSING + SHARED).returncode == 0
    (checkout.parent / "shared").mkdir()
    found = skipped(checkout, PASSING + SHARED)
    assert found.returncode == 1
    assert "test_golden" in found.stderr
    assert "test_one" not in found.stderr


def test_any_other_reason_fails_and_is_named(checkout):
    found = skipped(checkout, PASSING + WINDOWS)
    assert found.returncode == 1
    assert "test_it::test_later: not today" in found.stderr


def test_a_whole_module_skipped_fails(checkout):
    found = skipped(checkout, PASSING + SHARED + 'pytest.importorskip("no_such_package")\n')
    assert found.returncode == 1
    assert "no_such_package" in found.stderr


def test_want_of_a_gpu_is_a_reason_only_where_there_is_none(checkout):
    import torch

    reason = '@pytest.mark.skip(reason="needs a GPU")\ndef test_cuda(): pass\n'
    assert skipped(checkout, PASSING + reason).returncode == int(torch.cuda.is_available())


def test_want_of_chromium_is_a_reason_only_where_there_is_none(checkout):
    reason = '@pytest.mark.skip(reason="needs chromium")\ndef test_page(): pass\n'
    assert skipped(checkout, PASSING + reason).returncode == int(shutil.which("chromium") is not None)


def test_want_of_the_official_tool_is_a_reason_only_where_it_is_absent(checkout):
    reason = '@pytest.mark.skip(reason="needs the package davis2017")\ndef test_tool(): pass\n'
    assert skipped(checkout, PASSING + reason).returncode == int(find_spec("davis2017") is not None)


def reasons(path: Path) -> list[str]:
    """The reasons for which the tests of a file are skipped, as they stand in its text."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [(ast.unparse(call.func), call) for call in calls]
    given = [call.args[0] for name, call in named if name == "pytest.skip"]
    for name, call in named:
        if name in ("pytest.mark.skip", "pytest.mark.skipif"):
            given += [word.value for word in call.keywords if word.arg == "reason"]
    return [ast.literal_eval(reason) for reason in given]


def test_every_reason_of_the_tests_is_known():
    known = runpy.run_path(str(CI / "skips.py"))["REASONS"]
    files = CI.with_name("tests").rglob("*.py")
    found = [reason for path in files if path != Path(__file__) for reason in reasons(path)]
    assert [reason for reason in found if not any(words in reason for words in known)] == []
    assert [words for words in known if not any(words in reason for reason in found)] == []


# ---------------------------------------------------------------- the script

UV = """#!/usr/bin/env bash
echo "uv $*" >> "$LOG"
[[ "$*" == "$FAIL" ]] && exit 3
if [[ "$*" == "run pytest" ]]; then
    echo '<testsuites/>' > "${PYTEST_ADDOPTS##*--junitxml=}"
    echo "1 passed in 0.01s"
fi
exit 0
"""

COMMANDS = [
    "run ruff check .",
    "run ruff format --check .",
    "run mypy",
    "run lint-imports",
    "run pytest",
    "run python .ci/skips.py",
]


@pytest.fixture
def run_ci(checkout, tmp_path):
    """Run .ci/run with stand-ins for uv, or without uv and with one for `python3 -m pip`."""

    def write(name: str, text: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(
        fail: str = "nothing", with_uv: bool = True, with_chromium: bool = True
    ) -> tuple[int, str, list[str]]:
        log, path = tmp_path / "log", f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        if with_chromium:
            write("chromium", "")
        else:
            write("apt-get", '#!/bin/sh\necho "apt-get $*" >> "$LOG"\n')
            path = str(tmp_path / "bin")
            for tool in ("bash", "dirname", "env", "mktemp", "rm"):
                (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
        if with_uv:
            write("uv", UV)
        else:
            write("uv.payload", UV)
            write("uv", "#!/usr/bin/env bash\nexit 127\n")
            write(
                "python3",
                '#!/usr/bin/env bash\necho "python3 $*" >> "$LOG"\n'
                'mkdir -p "$6/bin" && cp "$(dirname "$0")/uv.payload" "$6/bin/uv"\n',
            )
        environment = {
            **os.environ,
            "LOG": str(log),
            "FAIL": fail,
            "PATH": path,
        }
        done = subprocess.run(
            ["bash", str(checkout / ".ci/run")],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, log.read_text().splitlines()

    return run


def test_it_lints_checks_the_format_the_types_and_the_tests(run_ci):
    status, output, calls = run_ci()
    assert status == 0
    assert "1 passed" in output
    assert calls[0] == "uv --version"
    assert [
        call.startswith(f"uv {expected}") for call, expected in zip(calls[1:], COMMANDS, strict=True)
    ] == [True] * len(COMMANDS)


@pytest.mark.parametrize("number", range(5))
def test_each_failure_fails_the_run(run_ci, number):
    status, _, calls = run_ci(fail=COMMANDS[number])
    assert status != 0
    assert calls[-1] == f"uv {COMMANDS[number]}"


def test_uv_is_installed_where_there_is_none(run_ci):
    status, _, calls = run_ci(with_uv=False)
    assert status == 0
    assert calls[0].startswith("python3 -m pip install --quiet --target ")
    assert calls[0].endswith(" uv")
    assert "uv run pytest" in calls


def test_chromium_is_installed_where_there_is_none(run_ci):
    status, _, calls = run_ci(with_chromium=False)
    assert status == 0
    assert calls[1:3] == ["apt-get update -qq", "apt-get install -qq --no-install-recommends chromium"]
