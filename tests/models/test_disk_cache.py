from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from forecastd.disk_models import load_model, save_model
from forecastd.errors import ModelError
from forecastd.models.disk_cache import ABANDONED_S, CacheThread, Copied, DiskCache, new_model
from tests.models.some_models import Topic, some_model


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "models"


def update(cache: DiskCache, topic: Topic) -> list[str]:
    return cache.update(cache.wanted(topic.log))


def there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestUpdate:
    def test_writes_what_is_not_there_yet(self, topic: Topic, folder: Path) -> None:
        cache, version = DiskCache(folder, keep=5), topic.add().version
        assert update(cache, topic) == [version]
        assert update(cache, topic) == []
        second = topic.add().version
        assert update(cache, topic) == [second]
        assert there(folder) == {version, second}

    def test_keeps_the_newest_and_what_serves(self, topic: Topic, folder: Path) -> None:
        cache, versions = DiskCache(folder, keep=2), [topic.add().version for _ in range(5)]
        update(cache, topic)
        assert there(folder) == {*versions[3:]}
        topic.promote(versions[0])
        assert update(cache, topic) == [versions[0]]
        assert there(folder) == {versions[0], *versions[3:]}

    def test_leaves_folders_of_other_names_alone(self, topic: Topic, folder: Path) -> None:
        """`models.dir` may be where an operator keeps models too."""
        (folder / "first").mkdir(parents=True)
        topic.add()
        update(DiskCache(folder, keep=1), topic)
        assert "first" in there(folder)

    def test_removes_what_the_killed_left_half_written(self, topic: Topic, folder: Path) -> None:
        """But not what another instance is writing just now, nor what has a name of its own."""
        version = topic.add().version
        left, written = (folder / f".{version}.{text}.part" for text in ("0a1b", "2c3d"))
        own = folder / f"{version}.part"
        old = time.time() - 2 * ABANDONED_S
        for path in (left, written, own):
            path.mkdir(parents=True)
            (path / "weights-1.npz").write_bytes(b"half")
        for path in (left, own):
            os.utime(path, (old, old))
        update(DiskCache(folder, keep=5), topic)
        assert there(folder) == {version, written.name, own.name}

    def test_writes_a_damaged_copy_again(self, topic: Topic, folder: Path) -> None:
        version = topic.add().version
        update(DiskCache(folder, keep=5), topic)
        (file,) = (folder / version).glob("*.npz")
        file.write_bytes(b"damaged")
        cache = DiskCache(folder, keep=5)
        assert update(cache, topic) == [version]
        assert cache.load(version).version == version

    def test_does_nothing_without_models(self, topic: Topic, folder: Path) -> None:
        assert update(DiskCache(folder, keep=5), topic) == []
        assert not folder.exists()

    def test_says_that_the_disk_refuses(self, topic: Topic, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        topic.add()
        with pytest.raises(ModelError, match="is no folder, wanted a path in one"):
            update(DiskCache(tmp_path / "file" / "models", keep=5), topic)

    def test_says_that_a_folder_cannot_be_looked_into(self, topic: Topic, tmp_path: Path) -> None:
        """Whatever a disk has to say, it is no reason to end."""
        topic.add()
        with pytest.raises(ModelError, match="wanted copies of models there"):
            update(DiskCache(tmp_path / ("x" * 300), keep=5), topic)


class SlowCache(DiskCache):
    """On a disk that does not answer until it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keep=5)
        self.asked, self.may = threading.Event(), threading.Event()

    def update(self, wanted: Sequence[Copied]) -> list[str]:
        """When it may."""
        self.asked.set()
        assert self.may.wait(60)
        return super().update(wanted)


class TestThread:
    def test_lets_nobody_wait_for_the_disk(self, topic: Topic, folder: Path) -> None:
        cache = SlowCache(folder)
        thread, first = CacheThread(cache), topic.add().version
        thread.update(topic.log)
        assert cache.asked.wait(60)
        second = topic.add().version
        thread.update(topic.log)
        assert not folder.exists()
        cache.may.set()
        thread.wait(60)
        assert there(folder) == {first, second}
        assert thread.take_faults() == []

    def test_tells_once_that_the_disk_refuses(self, topic: Topic, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        topic.add()
        thread = CacheThread(DiskCache(tmp_path / "file" / "models", keep=5))
        thread.update(topic.log)
        thread.wait(60)
        (sentence,) = thread.take_faults()
        assert sentence.endswith("file is no folder, wanted a path in one")
        assert thread.take_faults() == []


class TestCopies:
    def test_are_models_as_training_writes_them(self, topic: Topic, folder: Path) -> None:
        entry = topic.add(parent="1-abcdef", scores={"skill": 0.25})
        Copied.of(topic.log, entry.version).write(folder)
        stored = load_model(folder)
        assert stored.architecture == entry.architecture
        assert stored.metadata.version_hash == entry.version.partition("-")[2]
        assert stored.metadata.made_by == "a test"
        assert stored.metadata.facts["scores"] == {"skill": 0.25}
        assert stored.metadata.facts["parent"] == "1-abcdef"

    def test_can_be_added_again_as_they_were(self, topic: Topic, folder: Path) -> None:
        entry = topic.add(parent="1-abcdef", scores={"skill": 0.25})
        Copied.of(topic.log, entry.version).write(folder)
        model = new_model(load_model(folder))
        assert (model.made_by, model.parent, model.facts) == (
            "a test",
            None,
            {"scores": {"skill": 0.25}},
        )
        assert model.software == entry.software
        for found, given in zip(model.weights, some_model(1).weights, strict=True):
            np.testing.assert_array_equal(found, given)

    def test_are_refused_when_damaged_or_not_there(self, topic: Topic, folder: Path) -> None:
        cache = DiskCache(folder, keep=5)
        with pytest.raises(ModelError, match="not there"):
            cache.load("7-3fa9c1")


def test_a_model_of_forecastd_train_can_be_added(topic: Topic, folder: Path) -> None:
    model = some_model()
    save_model(folder, model.architecture, model.weights, "forecastd train", {"seconds": 2.0})
    added = new_model(load_model(folder), parent="3-abcdef")
    assert (added.made_by, added.parent, added.facts) == (
        "forecastd train",
        "3-abcdef",
        {"seconds": 2.0},
    )
    assert added.software.keys() >= {"forecastd", "numpy"}
