"""What errors say about a folder or a format that is not the one that is needed."""

from pathlib import Path

import pytest

from frozen_vqa.cache.errors import KNOWN_BY, made_by, without_secrets, wrong_folder

OLDER, NEWER, NONE = "An older version", "A newer version", "No version"


@pytest.mark.parametrize(
    ("found", "said"),
    [(-1, NONE), (0, NONE), (1, OLDER), (2, OLDER), (4, NEWER), (99, NEWER)]
    + [(value, NONE) for value in ("3", None, 2.0, [3])],
)
def test_a_format_is_of_some_version(found: object, said: str) -> None:
    assert made_by(found, 3).startswith(said)


@pytest.mark.parametrize("kind", KNOWN_BY)
def test_a_folder_is_said_to_be_what_it_is(kind: str, tmp_path: Path) -> None:
    (other,) = KNOWN_BY.keys() - {kind}
    makes = KNOWN_BY[kind][1]

    def said(folder: Path) -> str:
        return wrong_folder(folder, kind, "x.json")  # type: ignore[arg-type]

    nowhere, empty, file, mistaken = (tmp_path / n for n in ("none", "empty", "file", "mistaken"))
    assert said(nowhere) == (
        f"{nowhere}: there is no {kind} here (there is no such folder). `frozen-vqa {makes}` makes "
        f"one."
    )
    (tmp_path / "link").symlink_to("nothing")
    assert "link is a link to nothing, which is not there). `frozen" in said(tmp_path / "link")
    assert "link is a link to nothing, which is not there). `frozen" in said(tmp_path / "link/far")
    empty.mkdir()
    assert "(x.json is missing). `frozen" in said(empty)
    file.touch()
    assert f": this is a file; the folder of a {kind} is needed." in said(file)
    mistaken.mkdir()
    (mistaken / KNOWN_BY[other][0]).touch()
    assert f": this is a {other}; the folder of a {kind} is needed." in said(mistaken)


def test_a_folder_near_by_is_offered(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    said = wrong_folder(tmp_path, "run", "run.json")
    shown = ", ".join(str(tmp_path / name) for name in "abc")
    assert f"here (run.json is missing). Did you mean one of {shown}, …? " in said
    for name in "bcd":
        (tmp_path / name / "run.json").unlink()
    assert f" Did you mean {tmp_path / 'a'}? " in wrong_folder(tmp_path, "run", "run.json")
    inside = tmp_path / "a" / "state"
    inside.mkdir()
    assert f" Did you mean {tmp_path / 'a'}? " in wrong_folder(inside, "run", "run.json")


@pytest.mark.parametrize("before", ["", "no answer from ", "(", "'"])
@pytest.mark.parametrize("after", ["", " in 5 tries", "/x?a=1", ")"])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:SECRET@host:80", "http://…host:80"),
        ("http://me:SEC@SECRET@host", "http://…host"),
        ("socks5://:SECRET@host", "socks5://…host"),
        ("https://hf_SECRET@host/a@b", "https://…host/a@b"),
        ("https://host/a?X-Amz-Signature=SECRET&b=1", "https://host/a?…&b=1"),
        ("https://host/a?b=1&access_token=SECRET", "https://host/a?b=1&…"),
        ("https://host/@me/a?b=1", "https://host/@me/a?b=1"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_passwords_and_tokens_of_urls_are_not_shown(
    url: str, shown: str, before: str, after: str
) -> None:
    if not ("?" in url and after):
        assert without_secrets(before + url + after) == before + shown + after
    assert "SECRET" not in without_secrets(before + url + after)
