from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from training import input_pipeline, records
from training.presets import SSD_COMPACT


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


def test_skipping_jumps_over_whole_epochs(manifest: records.Manifest) -> None:
    straight = _order(input_pipeline.stream(manifest, 0), 20)[11:]
    assert _order(input_pipeline.stream(manifest, 0, skip=11), 9) == straight


def test_skipping_and_sharding_cut_the_same_stream(manifest: records.Manifest) -> None:
    whole = np.concatenate([images for images, *_ in _batches(manifest).take(4)])
    skipped = np.concatenate([images for images, *_ in _batches(manifest, skip=4).take(2)])
    np.testing.assert_array_equal(skipped, whole[4:])
    shard = next(iter(_batches(manifest, shard=(1, 2), batch_size=4)))[0]
    np.testing.assert_array_equal(shard, whole[1::2])


def test_eager_and_mapped_steps_agree(manifest: records.Manifest) -> None:
    key, serialized = next(iter(input_pipeline.stream(manifest, 0)))
    eager = input_pipeline.prepare_training_example(
        records.parse(serialized), key, SSD_COMPACT, True
    )
    mapped = next(iter(_batches(manifest, batch_size=1)))[0][0]
    np.testing.assert_allclose(eager[0], mapped, atol=1e-3)


def test_evaluation_images_are_those_of_the_served_preprocessing(
    manifest: records.Manifest,
) -> None:
    """OpenCV decodes and resizes in front of the served network: at most one grey level apart."""
    example = next(iter(records.dataset(manifest)))
    found = input_pipeline.prepare_evaluation_example(example, 300)["images"].numpy()
    decoded = cv2.imdecode(np.frombuffer(example["encoded"].numpy(), np.uint8), cv2.IMREAD_COLOR)
    served = cv2.resize(decoded, (300, 300), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    assert np.abs(found.astype(int) - served.astype(int)).max() <= 1
