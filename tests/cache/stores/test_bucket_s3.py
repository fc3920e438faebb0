"""The same over S3's own protocol, spoken by a server on loopback that misbehaves."""

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheBusyError, FeatureCache
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.memory import ResidentImages
from frozen_vqa.cache.stores import store as stores
from frozen_vqa.cache.stores.lease import sole_writer_at
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture
from tests.support.several_shards import PICTURES, write
from tests.support.stores import content, pull, push

pytestmark = pytest.mark.slow

URL = "s3://caches/vqa"


class Faults:
    """A WSGI application between the client and moto: some requests fail, some answers are cut."""

    def __init__(self, app: object) -> None:
        self.app, self.fails, self.cuts = app, 0.0, 0.0
        self.random, self.asked = random.Random(0), Counter[str]()

    def __call__(self, environ: dict, start: object) -> object:
        self.asked[environ["REQUEST_METHOD"]] += 1
        if self.random.random() < self.fails:
            start("503 Slow Down", [("Content-Length", "0")])  # type: ignore[operator]
            return [b""]
        answer = self.app(environ, start)  # type: ignore[operator]
        if environ["REQUEST_METHOD"] == "GET" and self.random.random() < self.cuts:
            data = b"".join(answer)
            return [data[: len(data) // 2]]
        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Faults]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faults = Faults(DomainDispatcherApplication(create_backend_app))
    made = make_server("127.0.0.1", 0, faults, threaded=True)  # type: ignore[arg-type]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "of-a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}")
        patch.setattr(stores, "FIRST_WAIT", 0.01)
        yield faults
    made.shutdown()
    thread.join()


@pytest.fixture
def bucket(server: Faults) -> Iterator[Faults]:
    import s3fs

    server.fails = server.cuts = 0.0
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("caches")
    server.asked.clear()
    yield server
    server.fails = server.cuts = 0.0
    files.rm("caches", recursive=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("caches") / "one"
    write(directory)
    return directory


def test_there_and_back_and_nothing_twice(cache: Path, tmp_path: Path, bucket: Faults) -> None:
    assert push(cache, URL).sent == 7
    sent = bucket.asked["PUT"]
    assert push(cache, URL).sent == 0
    assert bucket.asked["PUT"] - sent == 3  # the lease, the card and the manifest
    assert pull(tmp_path / "back", url=URL) == 8
    assert content(tmp_path / "back") == content(cache)
    assert open_store(URL).sizes("leases") == {}


def test_an_object_is_made_once(bucket: Faults) -> None:
    store = open_store(URL)
    assert store.create("images/a", b"one")
    assert not store.create("images/a", b"two")
    assert store.read("images/a", most=1) == b"on"
    with sole_writer_at(store), pytest.raises(CacheBusyError), sole_writer_at(open_store(URL)):
        pass


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_fails_and_cuts(
    seed: int, cache: Path, tmp_path: Path, bucket: Faults
) -> None:
    push(cache, URL)
    pull(tmp_path / "usual", url=URL)
    usual = bucket.asked.total()
    names = set(open_store(URL).sizes("images"))
    open_store(URL).remove([*names, "cache.json"])
    bucket.asked.clear()
    bucket.fails, bucket.cuts, bucket.random = 0.05, 0.01, random.Random(seed)
    push(cache, URL)
    pull(tmp_path / "back", url=URL)
    assert bucket.asked.total() < 1.6 * usual
    assert content(tmp_path / "back") == content(cache)
    there = FeatureCache(open_stage(URL, tmp_path / "stage"))
    assert (ResidentImages(there).rows == PICTURES).all()
    bucket.fails = bucket.cuts = 0.0
    assert set(open_store(URL).sizes("images")) == names


def test_what_is_wrong_is_one_sentence(
    cache: Path, bucket: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="no such object"):
        push(cache, "s3://not-a-bucket-of-ours/vqa")
    bucket.fails, before = 1.0, bucket.asked.total()
    with pytest.raises(StoreError, match="gave no whole answer in 5 tries"):
        push(cache, URL)
    assert bucket.asked.total() - before == 5
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(StoreError, match="gave no whole answer in 5 tries") as found:
            push(cache, URL)
    assert "\n" not in str(found.value)


def test_pictures_with_any_name_are_read_and_an_empty_one_is_empty(bucket: Faults) -> None:
    store = open_store("s3://caches")
    for name, data in {"a b+ü.png": b"pixels", "empty.png": b""}.items():
        store.create(name, data)
        assert StoredPicture(f"s3://caches/{name}").read(100) == data
    assert not StoredPicture("s3://caches/none.png").is_there()
    assert bucket.asked == {"PUT": 2, "GET": 3}
