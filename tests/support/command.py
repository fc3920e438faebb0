"""The command line as a person meets it: exit code, stdout and stderr of the real entry."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from frozen_vqa import cli


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return the one object on stdout."""
        assert self.out.endswith("}\n")
        assert self.out.count("\n") == 1
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def run_command(*words: object) -> Finished:
    """Run a command in this process, through `cli.main`. A bug comes out as it is."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["frozen-vqa", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
        assert isinstance(code, int)
        return Finished(code, out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
    raise AssertionError("the program did not end")


def error_of(found: Finished) -> str:
    """Return the one line that a failed command ends with."""
    assert found.code == 1, found
    assert found.out == ""
    assert "Traceback" not in found.err
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, found.err
    assert found.err.endswith(f"{errors[0]}\n")
    return errors[0].removeprefix("error: ")


def only_line(found: Finished) -> str:
    """Return the same, where nothing came before it."""
    error = error_of(found)
    assert found.err == f"error: {error}\n"
    return error
