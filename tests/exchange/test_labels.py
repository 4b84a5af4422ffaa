import numpy as np
import pytest

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import labels_from_dataset, read_labels, write_labels
from fmfbench.exchange.masks import pack_masks


def assert_same(a, b):
    for name in ("sample_id", "recording", "frame", "frame_time", "split", "class_label", "mask_bits"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.mask_shape, a.recordings, a.fingerprint) == (b.mask_shape, b.recordings, b.fingerprint)
    assert dict(a.unmasked) == dict(b.unmasked)


@pytest.mark.parametrize("split", ["train", "test", "unused", "all"])
def test_labels_are_those_of_the_recordings(make_data, split):
    data = make_data(lengths=(2600, 1100))
    labels = labels_from_dataset(data, split)
    rows = []
    for index, recording in enumerate(data.recordings.values()):
        for frame in range(recording.num_frames):
            if split in ("all", ("train", "test", "unused")[recording.split[frame]]):
                rows += [(index, recording, frame)]
    assert labels.sample_id.tolist() == [recording.first_id + frame for _, recording, frame in rows]
    assert labels.recording.tolist() == [index for index, _, _ in rows]
    assert labels.frame.tolist() == [frame for _, _, frame in rows]
    assert labels.frame_time.tolist() == [recording.frame_time[frame] for _, recording, frame in rows]
    assert labels.split.tolist() == [recording.split[frame] for _, recording, frame in rows]
    assert labels.class_label.tolist() == [int(recording.masks[frame].any()) for _, recording, frame in rows]
    np.testing.assert_array_equal(
        labels.mask_bits, pack_masks(np.stack([recording.masks[frame] for _, recording, frame in rows]))
    )


def test_a_scattered_split_is_read_frame_by_frame(make_data):
    data = make_data(lengths=(2600, 40))
    rng = np.random.default_rng(0)
    for recording in data.recordings.values():
        recording.split[:] = rng.integers(0, 3, recording.num_frames)
    labels = labels_from_dataset(data, "test")
    np.testing.assert_array_equal(labels.mask_bits, pack_masks(data.test_masks()))


@pytest.mark.parametrize("split", ["test", "all"])
def test_the_round_trip_through_a_file(data, tmp_path, split):
    labels = labels_from_dataset(data, split)
    path = write_labels(tmp_path / "labels.npz", labels)
    assert_same(read_labels(path), labels)
    assert_same(read_labels(path).select("test"), labels.select("test"))
    assert path.read_bytes() == write_labels(tmp_path / "again", labels).read_bytes()


def test_ids_only_tells_no_label(data, tmp_path):
    path = write_labels(tmp_path / "ids.npz", labels_from_dataset(data, masks=False), ids_only=True)
    with np.load(path) as plain:
        assert sorted(plain) == sorted(
            ["sample_id", "recording", "frame", "frame_time", "split", "mask_shape", "meta"]
        )
    labels = read_labels(path)
    assert labels.class_label is None
    assert labels.no_mask == "no labels, only ids"


def test_no_layer_no_masks(data):
    data.default_layer = None
    labels = labels_from_dataset(data)
    assert labels.mask_bits is None
    assert "only class labels" in labels.no_mask


def test_a_recording_without_the_layer_speaks_only_for_itself(data):
    data.recordings["furnace_1"].layers = ()
    data.recordings["furnace_1"].split[:] = 0
    labels = labels_from_dataset(data)
    assert "furnace_1" in labels.no_mask
    assert labels.select("test").no_mask is None
    assert "furnace_1" in labels.select("train").no_mask


def test_mixed_frame_sizes(make_data):
    labels = labels_from_dataset(make_data(sizes=((7, 9), (8, 6))))
    assert labels.mask_bits is None
    assert labels.mask_shape is None
    assert "7 x 9, 8 x 6" in labels.no_mask


def test_rows_in_any_order(data, tmp_path, save):
    labels = labels_from_dataset(data)
    with np.load(write_labels(tmp_path / "labels.npz", labels)) as plain:
        arrays = dict(plain)
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = {name: array[order] if len(array.shape) and len(array) == len(order) else array
                for name, array in arrays.items()}  # fmt: skip
    assert_same(read_labels(save(shuffled)), labels)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": None, "split": None}, "got none called frame, split"),
        ({"split": lambda a: a + 3}, r"split: expected values of .*, got [34]"),
        ({"class_label": lambda a: a + 2}, r"class_label: expected values of .*, got \d"),
        ({"class_label": lambda a: a.astype(int) + 256}, r"class_label: expected values of .*, got \d"),
        ({"frame": lambda a: a - 1}, "frame: expected 0 or more, got -1"),
        ({"frame": lambda a: a // 2}, "frame: expected it to rise"),
        ({"frame_time": lambda a: a[::-1]}, "frame_time: expected it to rise"),
        ({"recording": lambda a: 1 - a}, "in the order of the recordings, got another"),
        ({"class_label": lambda a: a[:-1]}, "class_label: expected shape"),
        ({"sample_id": lambda a: a // 2}, "expected each sample id once"),
        ({"recording": lambda a: a + 1}, "recording: expected 0 to 1, got 1 to 2"),
        ({"frame_time": lambda a: a.astype(float)}, "frame_time: expected shape"),
        ({"mask_shape": None}, "mask_bits: expected uint8 rows"),
        ({"mask_shape": lambda a: a + 4}, "mask_bits: expected uint8 rows"),
        ({"mask_shape": lambda a: a * 0}, r"mask_shape: expected \(H, W\), got"),
        ({"mask_bits": lambda a: a | 1}, "behind the last pixel"),
        ({"meta": lambda a: np.array("{}")}, "expected the meta of label schema"),
        ({"meta": lambda a: np.array(3)}, "expected the meta of label schema"),
        ({"meta": lambda a: np.array([object()], object)}, "pickled objects"),
    ],
)
def test_bad_label_files(data, tmp_path, save, changes, words):
    with np.load(write_labels(tmp_path / "labels.npz", labels_from_dataset(data))) as plain:
        arrays = dict(plain)
    for name, change in changes.items():
        array = arrays.pop(name)
        if change is not None:
            arrays[name] = change(array)
    with pytest.raises(PredictionError, match=words) as caught:
        read_labels(save(arrays))
    assert "labels export" in str(caught.value)


def test_a_prediction_file_is_not_a_label_file(save):
    with pytest.raises(PredictionError, match="got none called frame, frame_time, meta, recording, split"):
        read_labels(save({"sample_id": np.arange(3), "score": np.zeros(3)}))


def test_only_known_splits(data):
    with pytest.raises(PredictionError, match="one of train, test, unused, all, val"):
        labels_from_dataset(data).select("dev")
