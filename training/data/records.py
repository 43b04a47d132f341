"""The records of a split: its manifest, and its images as tensors.

OUTPUT/SPLIT-00000-of-00004.tfrecord and its brothers hold tf.train.Example with the feature keys of
the TensorFlow Object Detection API (`FEATURES`); OUTPUT/labels.txt (line i is class i) and
OUTPUT/label_map.pbtxt are for that API's tools; OUTPUT/SPLIT.json is the manifest. A split without
a manifest that fits its shards is not whole, and `load_manifest` refuses it.

Class numbers: the API's label maps start at 1, so image/object/class/label does too; `parse`
gives them from 0. Boxes are normalised to 0..1 of the upright image.

Format: TensorFlow Object Detection API, "Preparing Inputs" (using_your_own_dataset.md).
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from training.data.problems import DataError

FEATURES = {
    "image/height": "int64",  # pixels, upright
    "image/width": "int64",
    "image/filename": "bytes",
    "image/source_id": "bytes",  # the image id
    "image/key/sha256": "bytes",  # of image/encoded, in hexadecimal
    "image/encoded": "bytes",  # the file
    "image/format": "bytes",  # jpeg, png or bmp
    "image/object/bbox/xmin": "float",  # 0..1; this and all below once per box
    "image/object/bbox/xmax": "float",
    "image/object/bbox/ymin": "float",
    "image/object/bbox/ymax": "float",
    "image/object/class/text": "bytes",  # the label
    "image/object/class/label": "int64",  # from 1
    "image/object/difficult": "int64",  # 0 or 1
    "image/object/truncated": "int64",  # 0 or 1
}
PHOTO_DIGITS = 12


class ManifestError(DataError):
    """Records are missing, half written, or for other labels."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a split: its name, its size in bytes, its content's sha256."""

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A whole split of records.

    labels: line i of labels.txt, class i.
    photos: the `photo_id` of each image's file, sorted; none in a manifest of before there was it.
    tile: larger photos were cut into tiles of this side, pixels; 0: none was.
    fingerprint: sha256 over labels and sorted examples; the same however they are sharded.
    """

    directory: Path
    split: str
    count: int  # images
    labels: tuple[str, ...]
    shards: tuple[Shard, ...]
    fingerprint: str
    photos: tuple[str, ...] = ()
    tile: int = 0

    @property
    def paths(self) -> list[str]:
        """The shards' paths, as tf.data wants them."""
        return [str(self.directory / shard.name) for shard in self.shards]

    def check_labels(self, trained: Path, labels: tuple[str, ...]) -> None:
        """Refuse a network that was trained for other labels; `trained` is its place.

        Raises:
            ManifestError: it was.
        """
        if labels != self.labels:
            raise ManifestError(
                f"{trained} was trained for the labels {', '.join(labels)}, "
                f"but {self.directory} holds {', '.join(self.labels)}"
            )


def load_manifest(directory: Path, split: str) -> Manifest:
    """The manifest of a split whose shards all stand there with their sizes in bytes.

    Raises:
        ManifestError: it is missing or is not what `write_splits` wrote.
    """
    path = directory / f"{split}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
        fields["labels"] = tuple(fields["labels"])
        fields["photos"] = tuple(fields.get("photos", ()))
        manifest = Manifest(directory=directory, shards=shards, **fields)
    except FileNotFoundError:
        raise ManifestError(_missing(directory, split)) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path}: not a manifest of records: {error}") from error
    for shard in manifest.shards:
        _check_shard(directory / shard.name, shard)
    return manifest


def photo_id(path: Path) -> str:
    """What a photo is known again by: the first 12 hexadecimal digits of its file's sha256.

    Of 100,000 photos and 5,000 others, two that differ share one with a chance of 2 in a million.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:PHOTO_DIGITS]


def photos(manifest: Manifest) -> tuple[str, ...]:
    """Every image's `photo_id`; where the manifest tells none, that of the stored file."""
    if manifest.photos:
        return manifest.photos
    key = "image/key/sha256"
    features = {key: tf.io.FixedLenFeature([], tf.string)}
    examples = tf.data.TFRecordDataset(manifest.paths).map(
        lambda serialized: tf.io.parse_single_example(serialized, features)[key]
    )
    return tuple(sorted(x.decode()[:PHOTO_DIGITS] for x in examples.as_numpy_iterator()))


def _missing(directory: Path, split: str) -> str:
    whole = sorted(path.stem for path in directory.glob("*.json"))
    shards = list(directory.glob(f"{split}-*.tfrecord"))
    state = "its records are half written" if shards else "there are no such records"
    return (
        f"{directory / split}.json is missing: {state}; splits here: "
        f"{', '.join(whole) or 'none'}; write them with `python -m training records`"
    )


def _check_shard(path: Path, shard: Shard) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != shard.size:
        found = "no such file" if size is None else f"{size} bytes"
        raise ManifestError(
            f"{path}: expected {shard.size} bytes, found {found}; write the records again with "
            "`python -m training records`"
        )


def dataset(manifest: Manifest) -> tf.data.Dataset:
    """The split's images in a fixed order, shard after shard, each as `parse` gives it."""
    return tf.data.TFRecordDataset(manifest.paths).map(parse, tf.data.AUTOTUNE)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One serialized example as tensors.

    Returns:
        image_id, encoded: string scalars.
        height, width: int32 scalars, pixels of the upright image.
        boxes_xyxy: float32 [N, 4], 0..1.
        classes: int32 [N], from 0.
        difficult: bool [N].
    """
    example = tf.io.parse_single_example(serialized, _specification())
    edges = [example[f"image/object/bbox/{edge}"] for edge in ("xmin", "ymin", "xmax", "ymax")]
    return {
        "image_id": example["image/source_id"],
        "encoded": example["image/encoded"],
        "height": tf.cast(example["image/height"], tf.int32),
        "width": tf.cast(example["image/width"], tf.int32),
        "boxes_xyxy": tf.stack(edges, axis=-1),
        "classes": tf.cast(example["image/object/class/label"], tf.int32) - 1,
        "difficult": tf.cast(example["image/object/difficult"], tf.bool),
    }


def _specification() -> dict[str, Any]:
    dtypes = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}
    return {
        key: tf.io.RaggedFeature(dtypes[kind])  # as many values as the image has boxes
        if key.startswith("image/object/")
        else tf.io.FixedLenFeature([], dtypes[kind])
        for key, kind in FEATURES.items()
    }
