"""Code of the user's own in place of ours: a fusion, a source, an encoder, named `module:Name`.

Runs and caches hold such a name as a text, and a stranger's run may name any module. So no module
is imported because a file names it: `trust` imports, and is called only with what the user has
named in this process, on the command line or in Python. `trusted` gives what it imported.
"""

import importlib
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import PipelineError, PluginError, is_out_of_memory

FORM = "MODULE:NAME"
_OWN = re.compile(r"(?=.{3,200}\Z)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_NOT_OWN = (str(Path(__file__).parent), "<frozen ", "site-packages")
_trusted: dict[str, Callable[..., Any]] = {}


def is_own(name: str) -> bool:
    """Whether a name has the form of code of the user's own, such as "my_module:MyFusion"."""
    return bool(_OWN.fullmatch(name))


def trust(code: str | Callable[..., Any]) -> str:
    """Let settings and runs name a class or function of your own in this process.

    Args:
        code: "module:Name", which is imported, or the class or function itself.

    Returns:
        Its name, "module:Name", which settings and runs hold.

    Raises:
        PluginError: if there is no such code, its import fails, or its name does not lead to it.
    """
    if not isinstance(code, str):
        name = f"{getattr(code, '__module__', '')}:{getattr(code, '__qualname__', '')}"
        if not is_own(name) or not callable(code):
            raise PluginError(
                f"{code!r:.80} has no name of the form {FORM}; give a class or a function that is "
                f"defined at the top of a module"
            )
        _trusted[name] = code
        return name
    if code not in _trusted:
        _trusted[code] = _import(code)
    return code


def trusted(name: str, *, where: object = "", option: str) -> Callable[..., Any]:
    """Return what `trust` has imported under a name, for `option`; nothing is imported here.

    Raises:
        PluginError: if the user has not named it.
    """
    if name not in _trusted:
        raise PluginError(
            f"{f'{where}: ' if where else ''}names {name!r:.210}, and no code runs because a file "
            f"names it. If you trust that code, name it yourself: {option} {name:.200} "
            f"(in Python: frozen_vqa.trust({name!r:.210}))."
        )
    return _trusted[name]


@contextmanager
def running(name: str, what: str) -> Iterator[None]:
    """Turn an error of the user's own code into a `PluginError` that says what failed and where."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not any(part in f.filename for part in _NOT_OWN)] or frames
        lines = " ".join(str(error).split())
        raise PluginError(
            f"{name}: {what} failed in {own[-1].filename}, line {own[-1].lineno} "
            f"({type(error).__name__}: {lines:.300})"
        ) from error


def _import(name: str) -> Callable[..., Any]:
    if not is_own(name):
        raise PluginError(f"{name!r:.210} is not the name of code; write {FORM}")
    module_name, _, attribute = name.partition(":")
    try:
        with running(name, "the import"):
            module = importlib.import_module(module_name)
    except PluginError as error:
        missing = error.__cause__
        top = module_name.partition(".")[0]
        if not isinstance(missing, ModuleNotFoundError) or missing.name not in (top, module_name):
            raise
        raise PluginError(
            f"{name}: there is no module {missing.name!r}; install it, or name its folder in the "
            f"environment variable PYTHONPATH (the working folder is not searched)"
        ) from None
    found = getattr(module, attribute, None)
    if not callable(found):
        fault = "is not a class or a function" if hasattr(module, attribute) else "is not there"
        raise PluginError(f"{name}: {attribute!r} {fault} in {module.__file__ or module_name}")
    return found
