from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forecastd import disk_models
from forecastd.architecture import Architecture, Recurrent
from forecastd.disk_models import check_replaceable, load_model, save_model
from forecastd.errors import ModelError

MODEL = Architecture(
    cells=(Recurrent(cell="lstm", units=3), Recurrent(cell="gru", units=2)),
    timesteps=4,
    features=1,
    outputs=2,
)


def weights(seed: int = 0) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in MODEL.weight_shapes]


def save(path: Path, seed: int = 0, **facts: Any) -> str:
    return save_model(path, MODEL, weights(seed), "a test", facts).version_hash


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "model"


class TestSaveAndLoad:
    def test_give_back_what_was_given(self, path: Path) -> None:
        version = save(path, history=[{"number": 1}])
        stored = load_model(path)
        assert stored.architecture == MODEL
        assert stored.version == f"0-{version}"
        assert len(version) == 6
        assert stored.metadata.facts == {"history": [{"number": 1}]}
        assert stored.metadata.software.keys() >= {"forecastd", "python", "numpy"}
        for found, given in zip(stored.weights, weights(), strict=True):
            np.testing.assert_array_equal(found, given)

    def test_leave_one_folder_with_two_files(self, path: Path) -> None:
        save(path)
        assert [item.name for item in path.parent.iterdir()] == ["model"]
        assert len(list(path.iterdir())) == 2

    def test_version_tells_models_apart_by_what_they_forecast(self, tmp_path: Path) -> None:
        assert save(tmp_path / "a", note=1) == save(tmp_path / "b", note=2)
        assert save(tmp_path / "c", seed=1) != save(tmp_path / "a", note=1)


class TestReplacing:
    def test_leaves_only_the_new_model(self, path: Path) -> None:
        save(path)
        version = save(path, seed=1)
        assert load_model(path).version == f"0-{version}"
        assert len(list(path.iterdir())) == 2

    def test_that_is_interrupted_leaves_the_old_model(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The metadata that names the new weights is what counts, and it did not appear."""
        version = save(path)

        def fail(*_: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(ModelError, match="No space left on device, wanted to write a model"):
            save(path, seed=1)
        assert load_model(path).version == f"0-{version}"
        assert len(list(path.iterdir())) == 2

    def test_of_nothing_that_is_interrupted_leaves_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk_models, "_write_synced", fail)
        with pytest.raises(ModelError, match="No space left"):
            save(path)
        assert not list(path.parent.iterdir())

    def test_during_a_read_is_read_once_more(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that has the old metadata looks for weights that are gone."""
        save(path)
        version, read = "", disk_models._read_metadata

        def read_then_replace(at: Path) -> disk_models.Metadata:
            nonlocal version
            metadata = read(at)
            if not version:
                version = save(path, seed=1)
            return metadata

        monkeypatch.setattr(disk_models, "_read_metadata", read_then_replace)
        assert load_model(path).version == f"0-{version}"

    def test_takes_an_empty_folder(self, path: Path) -> None:
        path.mkdir(parents=True)
        check_replaceable(path)
        save(path)
        load_model(path)

    def test_is_promised_without_leaving_a_trace(self, path: Path) -> None:
        check_replaceable(path)
        assert not list(path.parent.parent.iterdir())

    def test_below_a_file_is_refused_before_there_is_a_model(self, tmp_path: Path) -> None:
        (tmp_path / "gen.py").write_text("")
        path = tmp_path / "gen.py" / "deep" / "model"
        with pytest.raises(ModelError) as raised:
            check_replaceable(path)
        assert str(raised.value) == f"{path}: {tmp_path}/gen.py is no folder, wanted a path in one"

    def test_where_nobody_may_write_is_refused_before_there_is_a_model(self) -> None:
        """A file system that says no to everybody, root included."""
        path = Path("/proc/self/model")
        with pytest.raises(ModelError, match=r"^/proc/self/model: .*, wanted to write a model the"):
            check_replaceable(path)

    def test_of_a_link_to_nowhere_is_refused(self, path: Path) -> None:
        path.parent.mkdir()
        path.symlink_to("nowhere")
        with pytest.raises(ModelError, match="it is there and holds no model"):
            check_replaceable(path)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_refuses_what_is_no_model(self, path: Path, kind: str) -> None:
        path.parent.mkdir()
        if kind == "file":
            path.write_text("notes")
        else:
            (path / "src").mkdir(parents=True)
        with pytest.raises(ModelError, match=r"model: it is there and holds no model, wanted"):
            save(path)
        assert path.exists()


class TestFaults:
    """One sentence that says where, what was found and what was wanted."""

    def test_nothing_there(self, path: Path) -> None:
        with pytest.raises(ModelError, match="model: not there, wanted a model; forecastd train"):
            load_model(path)

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no metadata.json in it, wanted a model's folder"):
            load_model(tmp_path)

    def test_a_schema_of_another_version(self, path: Path) -> None:
        save(path)
        _edit(path, schema=2)
        with pytest.raises(ModelError, match=r"metadata.json of schema 2, wanted 1"):
            load_model(path)

    @pytest.mark.parametrize("text", [b"\xff", b"{", b"{}", b'{"schema": 1}', b"[]"])
    def test_metadata_that_we_did_not_write(self, path: Path, text: bytes) -> None:
        save(path)
        (path / "metadata.json").write_bytes(text)
        with pytest.raises(ModelError, match=r"metadata.json: .*, wanted what forecastd wrote"):
            load_model(path)

    def test_weights_that_are_not_what_was_written(self, path: Path) -> None:
        save(path)
        (file,) = path.glob("*.npz")
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(ModelError, match=r"npz differs from its checksum, wanted"):
            load_model(path)

    def test_weights_that_are_gone(self, path: Path) -> None:
        save(path)
        (file,) = path.glob("*.npz")
        file.unlink()
        with pytest.raises(ModelError, match=r"No such file or directory, wanted a model's file"):
            load_model(path)

    def test_weights_elsewhere(self, path: Path) -> None:
        """A model is one folder: nothing in it may point out of it."""
        save(path)
        _edit(path, weights={"file": "../x.npz", "sha256": ""})
        with pytest.raises(ModelError, match=r"weights at ../x.npz, wanted a file beside it"):
            load_model(path)

    def test_weights_of_another_shape(self, path: Path) -> None:
        save(path)
        architecture = json.loads((path / "metadata.json").read_text())["architecture"]
        _edit(path, architecture=architecture | {"outputs": 4, "horizon": None})
        with pytest.raises(ModelError, match=r"weights of shapes .*, wanted .* dense 4"):
            load_model(path)

    def test_weights_that_are_not_finite(self, path: Path) -> None:
        save_model(path, MODEL, [weight * np.float32("nan") for weight in weights()], "", {})
        with pytest.raises(ModelError, match="not finite float32 numbers"):
            load_model(path)

    def test_weights_in_a_pickle(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reading a model must not run code."""
        objects = np.array([{}], object)
        real = np.savez

        def with_objects(file: Any, *_: object, **__: object) -> None:
            real(file, objects, allow_pickle=True)

        monkeypatch.setattr(np, "savez", with_objects)
        save(path)
        with pytest.raises(ModelError, match=r"weights: .*allow_pickle=False, wanted an .npz"):
            load_model(path)


def _edit(path: Path, **fields: Any) -> None:
    file = path / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
