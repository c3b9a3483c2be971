"""Real processes, real signals: what they print is in the file, and where it went before."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.capture import ConsoleLog
from experiments.scribe import Cleaner, Copy
from experiments.store.location import redact

ROOT = Path(__file__).parents[1]
HEAD = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from experiments.capture import ConsoleLog
libc = ctypes.CDLL(None)
log = ConsoleLog(Path(sys.argv[1]), *map(int, sys.argv[2:]))
"""


def begin(code: str, path: Path, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """A process that runs the code, with `log` ready to be entered."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-W", "error", "-c", HEAD + code, str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def run(code: str, path: Path, *arguments: str, **options: object) -> tuple[str, str]:
    """What the user saw on stdout and stderr."""
    with begin(code, path, *arguments, **options) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


def wait_for(path: Path, text: str, seconds: float = 10.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and text in path.read_text(errors="replace"):
            return path.read_text(errors="replace")
        time.sleep(0.01)
    raise TimeoutError(f"no '{text}' in {path}")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text()


MIXED = """
print("before")
with log:
    print("python")
    os.write(1, b"descriptor\\n")
    libc.printf(b"c\\n")
    subprocess.run(["echo", "child"])
    print("error", file=sys.stderr)
    print("last", end="")
print("after")
"""


def test_python_c_and_children_are_in_the_file_and_in_order_where_the_user_looks(tmp_path: Path) -> None:
    out, _ = run(MIXED, tmp_path / "log", stderr=subprocess.STDOUT)
    assert out == "before\npython\ndescriptor\nc\nchild\nerror\nlastafter\n"
    assert (tmp_path / "log").read_text() == "python\ndescriptor\nc\nchild\nerror\nlast"


def test_two_streams_stay_apart_for_the_user_and_meet_in_the_file(tmp_path: Path) -> None:
    out, err = run(MIXED, tmp_path / "log")
    assert (out, err) == ("before\npython\ndescriptor\nc\nchild\nlastafter\n", "error\n")
    assert set((tmp_path / "log").read_text().split()) == {"python", "descriptor", "c", "child", "error", "last"}


def test_a_terminal_stays_a_terminal_and_is_copied_too(tmp_path: Path) -> None:
    near, far = pty.openpty()
    code = """
with log:
    print(sys.stdout.isatty(), os.isatty(2), *os.get_terminal_size(1), flush=True)
    subprocess.run(["echo", "child"])
    from rich.progress import Progress
    with Progress() as bar:
        for _ in bar.track(range(3), description="bar"):
            time.sleep(0.02)
"""
    os.set_blocking(near, True)
    with begin(code, tmp_path / "log", stdout=far, stderr=far) as process:
        os.close(far)
        seen = b""
        while True:
            try:
                seen += os.read(near, 4096)
            except OSError:  # the last one who could write is gone
                break
    os.close(near)
    assert process.returncode == 0
    assert seen.startswith(b"True True 0 0\r\nchild\r\n")
    assert b"\x1b[" in seen
    first, second, *bars = (tmp_path / "log").read_text().splitlines()
    assert (first, second) == ("True True 0 0", "child")
    assert len(bars) == 1
    assert bars[0].startswith("bar")
    assert "100%" in bars[0]


def test_colours_redrawn_lines_and_secrets_are_not_in_the_file(tmp_path: Path) -> None:
    secret = "postgresql://ann:hunter2@db/x --token abcdef hf_abcdefghijklmnopqrstu"
    code = f"""
with log:
    for i in range(50):
        print(f"\\r\\x1b[2K\\x1b[32m{{i}} %\\x1b[0m", end="", flush=True)
    print("\\n{secret}\\n\\x1b]8;;http://x\\x07link\\x1b]8;;\\x07\\r")
    os.write(1, b"caf\\xc3\\xa9 \\xff\\n")
"""
    run(code, tmp_path / "log")
    assert (tmp_path / "log").read_text() == f"49 %\n{redact(secret)}\nlink\ncafé �\n"
    assert "hunter2" not in redact(secret)


def test_a_started_line_is_in_the_file_within_a_second_and_replaced_when_it_is_redrawn(tmp_path: Path) -> None:
    code = """
with log:
    for word in ("one long state", "two"):
        print(f"\\r{word}", end="", flush=True)
        sys.stdin.readline()
"""
    with begin(code, tmp_path / "log", stdin=subprocess.PIPE) as process:
        wait_for(tmp_path / "log", "one long state", 2.0)
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert wait_for(tmp_path / "log", "two", 1.0) == "two"
        process.communicate(b"\n", timeout=30)


def test_the_middle_of_a_long_log_is_left_out_and_counted(tmp_path: Path) -> None:
    run("with log:\n    for i in range(30_000): print(f'line {i:05}')", tmp_path / "log", "20000")
    text = (tmp_path / "log").read_text()
    head, mark, tail = text.partition("[... ")
    count = int(tail.split()[0])
    lines = tail.splitlines()[1:]
    assert len(text) <= 20_000
    assert head.splitlines() == [f"line {i:05}" for i in range(len(head) // 11)]
    assert len(head) > 9_900
    assert lines == [f"line {i:05}" for i in range(30_000 - len(lines), 30_000)]
    assert len(lines) * 11 > 4_000
    assert mark
    assert len(head) + count + len(lines) * 11 == 30_000 * 11


def test_a_resumed_run_continues_the_file_also_after_its_middle_was_left_out(tmp_path: Path) -> None:
    for session in range(3):
        run(f"with log:\n    for i in range(200): print('session {session}', i)", tmp_path / "log", "2000")
    text = (tmp_path / "log").read_text()
    total = sum(len(f"session 0 {i}\n") for i in range(200)) * 3
    count = int(text.partition("[... ")[2].split()[0])
    assert text.startswith("session 0 0\n")
    assert text.endswith("session 2 199\n")
    assert text.count("left out") == 1
    assert len(text) <= 2000
    assert len(text) - len(f"[... {count} bytes left out ...]\n") + count == total


def test_after_kill_9_everything_printed_is_in_the_file_and_nobody_stays(tmp_path: Path) -> None:
    code = """
with log:
    print(log._scribe.pid, flush=True)
    for i in range(5000): print("line", i)
    libc.printf(b"from c\\n")
    os.write(1, b"unfinished")
    os.kill(os.getpid(), 9)
"""
    with begin(code, tmp_path / "log") as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert out.endswith(b"line 4999\nfrom c\nunfinished")
    wait_for(tmp_path / "log", "unfinished", 1.0)
    assert (tmp_path / "log").read_text() == out.decode()
    end = time.monotonic() + 2
    while is_alive(int(out.split()[0])) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(int(out.split()[0]))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_last_words_in_the_file(tmp_path: Path, signum: int) -> None:
    code = """
import signal
def end(signum, frame): raise SystemExit(0)
signal.signal(signal.SIGINT, end); signal.signal(signal.SIGTERM, end)
try:
    with log:
        try:
            print("ready"); time.sleep(30)
        finally:
            time.sleep(0.1); print("last words")
finally:
    print("and out")
"""
    with begin(code, tmp_path / "log", start_new_session=True) as process:
        wait_for(tmp_path / "log", "ready")
        os.killpg(process.pid, signum)
        out, _ = process.communicate(timeout=30)
    assert out == b"ready\nlast words\nand out\n"
    assert (tmp_path / "log").read_text() == "ready\nlast words\n"


def test_a_child_that_outlives_the_log_still_prints_and_delays_nobody(tmp_path: Path) -> None:
    code = """
with log:
    print("parent")
    child = subprocess.Popen(["sh", "-c", "read x; echo late"], stdin=subprocess.PIPE)
    start = time.monotonic()
assert time.monotonic() - start < 5
print("left")
child.communicate(b"\\n")
"""
    out, _ = run(code, tmp_path / "log")
    assert out == "parent\nleft\nlate\n"
    assert (tmp_path / "log").read_text() == "parent\n"


def test_c_code_that_floods_while_it_holds_the_interpreter_lock_goes_through(tmp_path: Path) -> None:
    code = """
with log:
    ctypes.PyDLL(None).write(1, b"x" * 299_999 + b"\\n", 300_000)  # PyDLL: keeps the lock
"""
    out, _ = run(code, tmp_path / "log")
    assert len(out) == 300_000
    assert (tmp_path / "log").read_text().count("x") == 299_999


def test_a_user_who_stops_reading_stops_the_program_as_without_the_file(tmp_path: Path) -> None:
    code = """
try:
    with log:
        for i in range(100_000): print("line", i)
except BrokenPipeError:
    os._exit(7)
"""
    with begin(code, tmp_path / "log") as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 7


@pytest.mark.parametrize("place", ["/dev/full", "missing/folder/log"])
def test_a_file_that_cannot_be_written_is_said_once_and_changes_nothing(tmp_path: Path, place: str) -> None:
    out, err = run("with log:\n    for i in range(3): print(i); time.sleep(0.1)", tmp_path / place)
    assert out == "0\n1\n2\n"
    assert err.count("\n") == 1
    assert "training goes on" in err


def test_a_disk_that_is_full_keeps_what_was_written_before(tmp_path: Path) -> None:
    resource_limit = (resource.RLIMIT_FSIZE, (4096, 4096))
    out, err = run(
        "with log:\n    for i in range(2000): print(f'line {i:04}'); time.sleep(0.001 * (i % 400 == 0))",
        tmp_path / "log",
        preexec_fn=lambda: resource.setrlimit(*resource_limit),
    )
    assert len(out.splitlines()) == 2000
    assert err.count("\n") == 1
    assert (tmp_path / "log").stat().st_size <= 4096


def test_a_scribe_that_cannot_start_is_said_once_and_changes_nothing(tmp_path: Path) -> None:
    out, err = run("sys.executable = '/missing'\nwith log: print('x')", tmp_path / "log")
    assert out == "x\n"
    assert err.count("\n") == 1
    assert "No such file" in err


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    code = """
def count(): return len(os.listdir("/proc/self/fd"))
before = count()
for _ in range(3):
    with log: print("x")
    log = ConsoleLog(log.path)
print(count() - before)
"""
    out, _ = run(code, tmp_path / "log")
    assert out == "x\nx\nx\n0\n"
    assert (tmp_path / "log").read_text() == "x\nx\nx\n"


def test_one_log_within_another(tmp_path: Path) -> None:
    code = """
with log:
    print("outer")
    with ConsoleLog(log.path.with_name("inner")): print("inner")
"""
    out, _ = run(code, tmp_path / "log")
    assert out == (tmp_path / "log").read_text() == "outer\ninner\n"
    assert (tmp_path / "inner").read_text() == "inner\n"


def test_a_forked_child_leaves_the_log_of_its_parent_alone(tmp_path: Path) -> None:
    code = """
with log:
    if os.fork() == 0:
        print("child"); sys.exit(0)
    os.wait()
    print("parent")
"""
    out, _ = run(code, tmp_path / "log")
    assert out == (tmp_path / "log").read_text() == "child\nparent\n"


def test_within_the_capture_of_pytest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ConsoleLog(tmp_path / "log"):
        sys.stdout.write("python\n")
        subprocess.run(["echo", "child"], check=True)
    assert set(capfd.readouterr().out.split()) == {"python", "child"}
    assert set((tmp_path / "log").read_text().split()) == {"python", "child"}


def test_within_a_replaced_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with ConsoleLog(tmp_path / "log"):
        sys.stdout.writelines(["python\n", "more\n"])
    assert sys.stdout is before
    assert capsys.readouterr().out == "python\nmore\n"
    assert (tmp_path / "log").read_text() == "python\nmore\n"


def test_the_scribe_costs_little_and_imports_little() -> None:
    code = "import sys, resource; sys.path.insert(0, sys.argv[1]); import experiments.scribe; "
    code += "u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime, 'dataclasses' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in outputs) < 0.05
    assert outputs[0][1] == "False"


def test_capture_imports_nothing_heavy() -> None:
    code = "import sys, experiments.capture; print({'torch', 'mlflow', 'numpy', 'rich'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "set()\n"


def test_endless_words_are_cleaned_in_time() -> None:
    cleaner = Cleaner([(r"\w*secret", "***")])
    start = time.process_time()
    assert cleaner.line(b"a" * 60_000) == "a" * 60_000
    assert time.process_time() - start < 1


def test_lines_lost_to_a_full_disk_are_counted_when_it_takes_lines_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(str(tmp_path / "later" / "log"), 2_000_000, Cleaner([]))
    copy.write([])
    for i in range(5):
        copy.add(b"%d" % i * 99_999 + b"\n")
    (tmp_path / "later").mkdir()
    copy.write([b"begun"])
    text = (tmp_path / "later" / "log").read_text()
    assert text.startswith("[... 300000 bytes lost ...]\n3333")
    assert text.endswith("4\nbegun")
    assert capfd.readouterr().err.count("\n") == 1
