import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from training.data import decoding, records
from training.input import input_pipeline
from training.network.presets import SSD_COMPACT, Resize


@pytest.fixture(scope="module")
def manifest(records_folder: Path) -> records.Manifest:
    return records.load_manifest(records_folder, "train")


def _order(dataset: tf.data.Dataset, count: int) -> list[tuple[bytes, bytes]]:
    """Seed and key of the first examples: enough to tell them apart."""
    return [(k.numpy().tobytes(), x.numpy()[-64:]) for k, x in dataset.take(count)]


def test_every_epoch_holds_every_example_in_another_order(manifest: records.Manifest) -> None:
    examples = [x for _, x in _order(input_pipeline.stream(manifest, 0), 3 * 8)]
    epochs = [examples[i : i + 8] for i in (0, 8, 16)]
    assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_stream_depends_on_the_seed_alone(manifest: records.Manifest) -> None:
    first, again, other = (_order(input_pipeline.stream(manifest, seed), 20) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len({key for key, _ in first}) == 20


def _batches(manifest: records.Manifest, **options: Any) -> tf.data.Dataset:
    arguments: dict[str, Any] = {"batch_size": 2, "seed": 0, "vertical_flip": True} | options
    return input_pipeline.training_batches(manifest, SSD_COMPACT, **arguments)


def test_batches_have_matches(manifest: records.Manifest) -> None:
    images, offsets, targets, image_ids = next(iter(_batches(manifest)))
    assert images.shape == (2, 300, 300, 3)
    assert offsets.shape == (2, 8732, 4)
    assert images.dtype == offsets.dtype == tf.float32
    assert ((targets.numpy() > 0).sum(axis=1) > 0).all()
    assert np.isfinite(offsets).all()
    written = {example["image_id"].numpy() for example in records.dataset(manifest)}
    assert set(image_ids.numpy()) < written


def test_repeated_images_come_as_often_as_they_should(manifest: records.Manifest) -> None:
    """Of 8 images one four times as often, another twice: 12 shares in 8 places."""
    repeats = np.array([4.0, 1, 1, 1, 1, 1, 1, 2])
    stream = input_pipeline.stream(manifest, 0, repeats=repeats)
    written = [x[-64:] for x in tf.data.TFRecordDataset(manifest.paths).as_numpy_iterator()]
    found = np.array([written.index(x) for _, x in _order(stream, 8 * 300)]).reshape(300, 8)
    counts = np.stack([(found == image).sum(axis=1) for image in range(8)], axis=1)  # [300, 8]
    wanted = repeats * 8 / repeats.sum()
    assert (np.abs(counts - wanted) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), wanted, atol=0.1)
    assert len({tuple(epoch) for epoch in found}) > 250


def test_repeated_images_resume_and_shard_as_others(manifest: records.Manifest) -> None:
    repeats = np.linspace(1, 3, 8)
    whole = _order(input_pipeline.stream(manifest, 5, repeats=repeats), 24)
    resumed = _order(input_pipeline.stream(manifest, 5, 11, repeats=repeats), 13)
    assert resumed == whole[11:]
    halves = [_order(input_pipeline.stream(manifest, 5, 2, (i, 2), repeats), 11) for i in range(2)]
    assert [each for pair in zip(*halves, strict=True) for each in pair] == whole[2:]
    alike = _order(input_pipeline.stream(manifest, 5, repeats=np.full(8, 2.0)), 24)
    assert alike == _order(input_pipeline.stream(manifest, 5), 24)


def test_skipping_jumps_over_whole_epochs(manifest: records.Manifest) -> None:
    straight = _order(input_pipeline.stream(manifest, 0), 20)[11:]
    assert _order(input_pipeline.stream(manifest, 0, skip=11), 9) == straight


def test_skipping_and_sharding_cut_the_same_stream(manifest: records.Manifest) -> None:
    whole = np.concatenate([images for images, *_ in _batches(manifest).take(4)])
    skipped = np.concatenate([images for images, *_ in _batches(manifest, skip=4).take(2)])
    np.testing.assert_array_equal(skipped, whole[4:])
    shard = next(iter(_batches(manifest, shard=(1, 2), batch_size=4)))[0]
    np.testing.assert_array_equal(shard, whole[1::2])


def test_workers_together_use_each_image_once_an_epoch(manifest: records.Manifest) -> None:
    """Three workers of two images a step: four steps are three epochs of eight."""
    shares = [
        np.concatenate([ids for *_, ids in _batches(manifest, shard=(index, 3)).take(4)])
        for index in range(3)
    ]
    epochs = np.stack(shares, axis=1).reshape(3, 8)  # element i is worker i % 3's
    written = sorted(example["image_id"].numpy() for example in records.dataset(manifest))
    for epoch in epochs:
        assert sorted(epoch) == written
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_eager_and_mapped_steps_agree(manifest: records.Manifest) -> None:
    key, serialized = next(iter(input_pipeline.stream(manifest, 0)))
    eager = input_pipeline.prepare_training_example(
        records.parse(serialized), key, SSD_COMPACT, True
    )
    mapped = next(iter(_batches(manifest, batch_size=1)))[0][0]
    np.testing.assert_allclose(eager[0], mapped, atol=1e-3)


def _photo(kind: str, width: int, height: int) -> dict[str, tf.Tensor]:
    """An example whose photo has detail in every pixel, so that averaging differs from sampling."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (12, 16, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    image = (image + rng.integers(-40, 40, (height, width, 1))).clip(0, 255).astype(np.uint8)
    encoded = cv2.imencode(kind, image)[1].tobytes()
    empty = np.zeros((0, 4), np.float32)
    return {"encoded": tf.constant(encoded), "image_id": tf.constant("photo"),
            "width": tf.constant(width), "height": tf.constant(height),
            "boxes_xyxy": tf.constant(empty), "classes": tf.zeros(0, tf.int32),
            "difficult": tf.zeros(0, tf.bool)}  # fmt: skip


PHOTOS = [(".jpg", 640, 480), (".jpg", 1600, 1300), (".jpg", 2003, 1507), (".jpg", 4032, 3024),
          (".png", 1600, 1300)]  # fmt: skip


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(("kind", "width", "height"), PHOTOS)
def test_evaluation_images_are_those_of_the_served_preprocessing(
    kind: str, width: int, height: int, resize: Resize
) -> None:
    example = _photo(kind, width, height)
    encoded = example["encoded"].numpy()
    (served,), _ = decoding._preprocessing.preprocess([encoded], 300, 300, 64_000_000, resize)
    found = input_pipeline.prepare_evaluation_example(example, 300, resize)["images"].numpy()
    np.testing.assert_array_equal(found, served)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(("kind", "width", "height"), PHOTOS)
def test_training_resizes_as_the_served_preprocessing(
    kind: str, width: int, height: int, resize: Resize
) -> None:
    """A whole photo; what differs is rounding and the last pixels of decoders and edges."""
    example = _photo(kind, width, height)
    served = decoding.served(example["encoded"].numpy(), 300, resize).astype(float)
    whole = dataclasses.replace(
        SSD_COMPACT, zoom_out=1.0, smallest_crop=1.0, photometric=False, resize=resize
    )
    seed = tf.constant([0, 0])
    window = input_pipeline.choose_window(example, seed, seed, whole)
    found = input_pipeline.show_window(example, window, seed, whole)
    difference = np.abs(found.numpy() - served)
    # OpenCV's warp, unlike its resize, counts in 32nds of a pixel, each of which is noise here.
    mean, most = (0.5, 2) if resize == "stretch" else (0.7, 3)
    assert difference.mean() < mean
    assert np.percentile(difference, 99) < most


def test_the_grey_around_a_letterboxed_photo_has_no_light() -> None:
    """Whatever is done to the photo's colours: it is the served one."""
    example = _photo(".jpg", 400, 200)
    preset = dataclasses.replace(SSD_COMPACT, zoom_out=1.0, smallest_crop=1.0, resize="letterbox")
    for number in range(5):
        seed = tf.constant([7, number])
        image = input_pipeline.prepare_training_example(example, seed, preset, False)[0].numpy()
        assert (image[:74] == decoding.PADDING).all()
        assert (image[-74:] == decoding.PADDING).all()
        assert (image[100:200] != decoding.PADDING).mean() > 0.9


def test_windows_are_reduced_as_photos_of_their_size() -> None:
    encoded = tf.constant(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    for side in range(100, 4000, 50):
        header = decoding._header.Header(side, 2 * side, 1)
        wanted = decoding._preprocessing.choose_reduction(header, (300, 300))
        found = input_pipeline.reduction(encoded, tf.constant([side, 2.0 * side]), 300)
        assert float(found) == wanted


def test_what_is_not_needed_yet_is_not_read(manifest: records.Manifest, tmp_path: Path) -> None:
    """However many photos there are and however large, memory holds those in work only.

    A damaged record tells when it is read.
    """
    copy = dataclasses.replace(manifest, directory=tmp_path)
    for path in manifest.paths:
        shutil.copy(path, tmp_path)
    order = [x for _, x in input_pipeline.stream(manifest, 0).take(8).as_numpy_iterator()]
    for shard in map(Path, copy.paths):
        shard.write_bytes(shard.read_bytes().replace(order[6][-64:], bytes(64)))
    stream = input_pipeline.stream(copy, 0).as_numpy_iterator()
    assert [next(stream)[1] for _ in range(6)] == order[:6]
    with pytest.raises(tf.errors.DataLossError):
        next(stream)
