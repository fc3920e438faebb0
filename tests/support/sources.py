"""The source of every module of ours, and what it imports."""

import ast

from tests.support.repository import ROOT


def modules() -> dict[str, str]:
    """Return the source of every module of ours by its dotted name, without `frozen_vqa`."""
    files = [ROOT / "__init__.py", ROOT / "cli.py"]
    files += [*ROOT.glob("cache/**/*.py"), *ROOT.glob("pipeline/**/*.py")]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    sources = (file.read_text(encoding="utf-8") for file in files)
    return {
        name.removesuffix("__init__").rstrip(".") or "frozen_vqa": source
        for name, source in zip(names, sources, strict=True)
    }


def imported(name: str, source: str, *, top_level: bool = False) -> set[str]:
    """Return what a module imports, anywhere or (with `top_level`) whenever it is imported.

    Names of ours come without `frozen_vqa`.
    """
    tree = ast.parse(source)
    inner = {
        node
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(scope)
        for node in ast.walk(scope)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if top_level and node in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: -node.level] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            found |= {module} - {""} | {f"{module}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("__import__", "import_module"):
                found |= {ast.literal_eval(a) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return {module.removeprefix("frozen_vqa.") for module in found} - {"frozen_vqa"}


def _type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and (node.test.id == "TYPE_CHECKING")
    )
