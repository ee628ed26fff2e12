"""Two runs of one output: the second is refused while the first lives, however the first ends."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.stages import output_lock
from codeshell_hf.stages.output_lock import lock_output

HOLDER = """
import sys
from pathlib import Path
from codeshell_hf.stages.output_lock import lock_output
with lock_output(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_second_run_is_refused_until_the_first_ends_or_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "pretrain"
    for ends in (True, False):
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(output)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as holder:  # fmt: skip
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held\n"

            with pytest.raises(SettingsError, match=r"pretrain is being written by another run, which holds .*\.lock"):
                lock_output(output).__enter__()

            if ends:
                holder.stdin.close()
            else:
                os.kill(holder.pid, signal.SIGKILL)
            holder.wait(60)
        with lock_output(output):
            pass
        assert list(output.parent.iterdir()) == []


def test_outputs_side_by_side_have_locks_of_their_own(tmp_path: Path) -> None:
    with lock_output(tmp_path / "sft"), lock_output(tmp_path / "sft-code"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["sft-code.lock", "sft.lock"]


def test_a_failed_run_frees_its_output(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock_output(tmp_path / "sft"):
        raise KeyError

    with lock_output(tmp_path / "sft"):
        pass


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()

    with lock_output(tmp_path / "file" / "sft"):
        pass

    assert "sft.lock cannot be locked" in caplog.text
    assert output_lock.logger.name in {record.name for record in caplog.records}


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_file_system_without_locks_is_used_with_a_warning_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Lustre without `-o flock`; a lock that is a mere file would refuse all runs after one that was killed."""
    import fcntl

    def fail(*given: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", fail)
    killed = lock_output(tmp_path / "sft")
    killed.__enter__()

    with lock_output(tmp_path / "sft"):
        pass

    assert caplog.text.count("sft.lock cannot be locked ([Errno 38] Function not implemented)") == 2
