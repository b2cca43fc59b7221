"""The log survives what a night can do to it, and says little on a terminal."""

import logging
import os
import re
from pathlib import Path

import pytest

from dquant import log

logger = logging.getLogger("dquant.test")


pytestmark = pytest.mark.usefixtures("restored_log")


def log_file(directory: Path) -> Path:
    return directory / f"dquant-watch-{os.getpid()}.log"


def test_the_file_has_everything_and_the_terminal_what_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up("watch", "info", tmp_path / "var" / "log", owns_terminal=False)
    logger.debug("too small")
    logger.info("small")
    logger.warning("large")
    text = log_file(tmp_path / "var" / "log").read_text("utf-8")
    assert "small" in text
    assert "large" in text
    assert "too small" not in text
    said = capsys.readouterr()
    assert said.out == ""
    assert "large" in said.err
    assert "small" not in said.err


def test_debugging_shows_everything_on_the_terminal_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up("watch", "debug", tmp_path, owns_terminal=False)
    logger.debug("tiny")
    assert "tiny" in capsys.readouterr().err
    assert "tiny" in log_file(tmp_path).read_text("utf-8")


def test_a_screen_is_not_written_over_and_has_the_last_warning_for_a_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = log.set_up("watch", "debug", tmp_path, owns_terminal=True)
    assert words.text == ""
    logger.warning("no connection to %s", "okex")
    logger.info("later")
    assert re.fullmatch(r"\d\d:\d\d:\d\d no connection to okex", words.text)
    monkeypatch.setattr(log, "NEWS_S", -1.0)
    assert words.text == ""
    assert capsys.readouterr() == ("", "")
    assert "later" in log_file(tmp_path).read_text("utf-8")


def test_setting_up_again_writes_nothing_twice(tmp_path: Path) -> None:
    log.set_up("watch", "info", tmp_path, owns_terminal=True)
    log.set_up("watch", "info", tmp_path, owns_terminal=True)
    logger.warning("once")
    assert log_file(tmp_path).read_text("utf-8").count("once") == 1


def test_a_folder_that_cannot_be_made_is_said_once_and_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    log.set_up("watch", "info", tmp_path / "file" / "log", owns_terminal=False)
    logger.warning("still here")
    said = capsys.readouterr().err
    assert said.count("no log file in") == 1
    assert "still here" in said
    assert "Traceback" not in said


def test_a_log_that_cannot_be_opened_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_file(tmp_path).mkdir()
    log.set_up("watch", "info", tmp_path, owns_terminal=False)
    assert capsys.readouterr().err.count("no log file in") == 1


def test_a_full_disk_ends_the_file_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_file(tmp_path).symlink_to("/dev/full")
    log.set_up("watch", "info", tmp_path, owns_terminal=False)
    for _ in range(3):
        logger.warning("still here")
    said = capsys.readouterr().err
    assert said.count("still here") == 3
    assert said.count("no more records go to") == 1
    assert "No space left on device" in said
    assert "Traceback" not in said


def test_old_logs_are_removed_and_new_ones_kept(tmp_path: Path) -> None:
    kept = log.PROCESSES_KEPT * (log.FILES_KEPT + 1)
    for number in range(kept + 5):
        path = tmp_path / f"dquant-feed-{number}.log"
        path.touch()
        os.utime(path, (number, number))
    (tmp_path / "other.log").touch()
    os.utime(tmp_path / "other.log", (0, 0))
    log.set_up("watch", "info", tmp_path, owns_terminal=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "other.log",
        log_file(tmp_path).name,
        *(f"dquant-feed-{number}.log" for number in range(5, kept + 5)),
    }


def test_a_log_that_another_process_removes_first_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dquant-feed-1.log").symlink_to(tmp_path / "gone")  # has no age to be asked for
    log.set_up("watch", "info", tmp_path, owns_terminal=False)
    assert log_file(tmp_path).exists()
    assert capsys.readouterr().err == ""
