"""What a cache was made with: the sizes that follow from it, and what differs from it."""

from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError, CacheMismatchError
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.manifest import Manifest
from tests.support.caches import make_spec
from tests.support.manifests import save


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_the_size_of_a_row(dtype: str, size: int) -> None:
    spec = make_spec(grid=(3, 5), vision_dim=7, text_dim=11, dtype=dtype)

    assert spec.patches == 15
    assert spec.image_row_bytes == (15 + 1) * 7 * size  # patches and CLS
    assert spec.prefix_row_bytes == 11 * size


def test_the_size_of_a_row_of_integers() -> None:
    """A byte a number and two a patch for its scale; the rest is float16."""
    spec = make_spec(grid=(3, 5), vision_dim=7, text_dim=11, dtype="int8")

    assert spec.image_row_bytes == 15 * (7 + 2) + 7 * 2
    assert spec.prefix_row_bytes == 11 * 2


def test_another_dtype_is_refused() -> None:
    with pytest.raises(
        CacheError, match="dtype is 'int4'; it must be one of float16, bfloat16, float32"
    ):
        make_spec(dtype="int4")


def test_an_equal_spec_is_enough_also_after_json(tmp_path: Path) -> None:
    spec = make_spec(vision={"model": "a", "mean": [0.1, 1 / 3]})
    save(tmp_path, Manifest(spec=spec))

    load_manifest(tmp_path).spec.require(spec, tmp_path)
    spec.require(load_manifest(tmp_path).spec, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float32"}, "dtype is 'float16', asked for 'float32'"),
        ({"text": {"model": "made-up-text", "layer": -2}}, "text layer is -1, asked for -2"),
        ({"vision": {"model": "made-up-vision"}}, "vision image size is 28, asked for None"),
        (
            {"vision": {"model": "b", "image size": 28, "fit": "crop"}},
            "vision model is 'made-up-vision', asked for 'b'; vision fit is None, asked for 'crop'",
        ),
    ],
)
def test_a_mismatch_names_both_values(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CacheMismatchError) as raised:
        make_spec().require(make_spec(**changes), tmp_path)

    assert str(raised.value).startswith(
        f"{tmp_path}: this cache was made with other settings: {message}. "
    )
    assert "or another --cache" in str(raised.value)
