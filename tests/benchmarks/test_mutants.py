"""Mutants are small faults that still compile, and the page names only faults that exist."""

from benchmarks.mutants.__main__ import ROOT, TESTS, draw, explained, modules_in, stages_of
from benchmarks.mutants.mutations import find_mutants

SOURCE = b'''"""Doc."""
def f(a: int = 3, *, b: bool = True) -> int:
    """More than one."""
    assert a == 1
    try:
        g("\xc3\xa9", key=a + 2)
    except ValueError:
        return -1
    finally:
        close(a)
    if a and not b:
        raise ValueError(f"{a + 1} is wrong")
    a += 0.5
    return a
'''
EXPECTED = [
    (2, "3 → (4)"),
    (2, "True → (False)"),
    (6, 'g("é", key=a + 2) → pass'),
    (6, "g(\"é\", key=a + 2) → (g('é'))"),
    (6, "a + 2 → (a - 2)"),
    (6, "2 → (3)"),
    (8, "return -1 → raise"),
    (8, "return -1 → return None"),
    (8, "-1 → (1)"),
    (8, "1 → (2)"),
    (10, "close(a) → pass"),
    (11, "a and not b → (a or not b)"),
    (11, "a and not b → (not (a and (not b)))"),
    (11, "not b → (b)"),
    (12, 'raise ValueError(f"{a + 1} is wrong") → pass'),
    (13, "a += 0.5 → a -= 0.5"),
    (13, "0.5 → (0.25)"),
    (14, "return a → return None"),
]


def test_one_thing_is_changed_at_a_time() -> None:
    """Not in texts, annotations or assertions."""
    found = find_mutants("m.py", SOURCE)
    assert sorted((m.line, m.change) for m in found) == sorted(EXPECTED)
    for mutant in found:
        compile(mutant.source(), "m.py", "exec")
        assert mutant.source() != SOURCE


def test_each_module_has_tests_and_a_draw_of_its_own() -> None:
    modules = [module for path in TESTS for module in modules_in(path)]
    assert len(modules) > 40
    for module in modules:
        assert all((ROOT / test).exists() for tests in stages_of(module) for test in tests)
        assert stages_of(module)
    one = modules[0]
    assert draw(one, 5, 0) == draw(one, 5, 0) != draw(one, 5, 1)


def test_the_page_names_only_mutants_that_exist() -> None:
    """A line that was changed since has to be judged anew."""
    known = explained()
    for module in {module for module, _, _ in known}:
        found = find_mutants(module, (ROOT / module).read_bytes())
        assert {row for row in known if row[0] == module} <= {
            (m.module, m.text, m.change) for m in found
        }
