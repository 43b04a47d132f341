"""Writes annotated folders' splits as sharded TFRecords, and reads them back.

Out: OUTPUT/SPLIT-00000-of-00004.tfrecord and its brothers, tf.train.Example with the feature keys
of the TensorFlow Object Detection API (`FEATURES`); OUTPUT/labels.txt (line i is class i) and
OUTPUT/label_map.pbtxt for that API's tools; and, last of all, OUTPUT/SPLIT.json, the manifest. A
split without a manifest that fits its shards is not whole, and `load_manifest` refuses it. So a
killed writer leaves the older whole split, or none.

Class numbers: the API's label maps start at 1, so image/object/class/label does too; `parse`
gives them from 0. Boxes are normalised to 0..1 of the upright image.

Format: TensorFlow Object Detection API, "Preparing Inputs" (using_your_own_dataset.md).
"""

import collections
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from training import disk
from training.data import annotations
from training.data.annotations import (
    Annotation,
    BadImageError,
    DataError,
    Dataset,
    Problem,
)
from training.data.folders import FolderSettings

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
AS_THEY_ARE = ("JPEG", "PNG", "BMP")  # what tf.io.decode_image reads, in any TensorFlow
ENCODING = {"jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": []}  # of images encoded again
PHOTO_DIGITS = 12
SMALLEST_SIDE = 300  # pixels of --max-side: the presets' input, which nothing less can fill
SAME_PICTURE = 4.0  # mean difference, of 255; JPEG decoders differ by less than 1


class ManifestError(DataError):
    """Records are missing, half written, or for other labels."""


@dataclasses.dataclass(frozen=True)
class RecordsSettings(FolderSettings):
    """Write annotated folders as sharded TFRecords.

    The formats are told apart by their layout.
    """

    output: Path
    """Folder to write to; a split that is already there is replaced once the new one is whole."""
    _: dataclasses.KW_ONLY
    splits: tuple[str, ...] = ()
    """Names of the splits; none given: those of train and val that exist."""
    shards: int = 4
    """Files per split, at most one per image."""
    max_side: int = 1600
    """Photos whose longer side has more pixels are shrunk to it; 0 stores them as they are."""


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
    fingerprint: sha256 over labels and sorted examples; the same however they are sharded.
    """

    directory: Path
    split: str
    count: int  # images
    labels: tuple[str, ...]
    shards: tuple[Shard, ...]
    fingerprint: str
    photos: tuple[str, ...] = ()

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


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image as it is stored."""

    encoded: bytes
    format: str  # jpeg, png or bmp
    width: int  # pixels, upright
    height: int
    encoded_again: bool


@dataclasses.dataclass
class Tally:
    """What became of a split's images: a digest of each example, how many were encoded again.

    photos: the `photo_id` of each.
    """

    digests: list[str] = dataclasses.field(default_factory=list)
    photos: list[str] = dataclasses.field(default_factory=list)
    encoded_again: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)  # those left out


def write_records(settings: RecordsSettings) -> int:
    """Write the splits and print a report.

    Raises:
        DataError: the folders or the settings do not allow it; no split was changed.
    """
    datasets = _read_splits(settings)
    _check_labels_agree(settings.output, datasets)
    written = write_splits(datasets, settings.output, settings.shards, settings.max_side)
    for dataset, (manifest, tally) in zip(datasets, written, strict=True):
        _report_split(dataset, manifest, tally)
    return 0


def _read_splits(settings: RecordsSettings) -> list[Dataset]:
    """All splits, with one list of labels for all of them."""
    folders = settings.open()
    print("\n".join(folders.notes()))
    datasets = folders.datasets(settings.splits, settings.labels)
    for dataset in datasets:
        if missing := folders.without(dataset.split):
            print(
                f"{dataset.split}: nothing from {', '.join(missing)}, without a split of that name"
            )
    return datasets


def _check_labels_agree(output: Path, datasets: list[Dataset]) -> None:
    """labels.txt is one for all splits, so those that stay have to have the same labels."""
    for path in sorted(output.glob("*.json")):
        if path.stem in {dataset.split for dataset in datasets}:
            continue
        old, new = load_manifest(output, path.stem).labels, datasets[0].labels
        if old != new:
            raise DataError(
                f"{path} was written with the labels {', '.join(old)}, now they are "
                f"{', '.join(new)}; choose another --output, or delete that file"
            )


def _report_split(dataset: Dataset, manifest: Manifest, tally: Tally) -> None:
    counts = collections.Counter(label for item in dataset.annotations for label in item.labels)
    boxes = ", ".join(f"{label} {counts[label]}" for label in dataset.labels)
    print(f"{dataset.split}: {manifest.count} images in {len(manifest.shards)} files; {boxes}")
    if tally.encoded_again:
        print(
            f"  {tally.encoded_again} images turned upright, converted or shrunk, and encoded again"
        )
    for line in annotations.describe_problems([*dataset.problems, *tally.problems]):
        print(f"  {line}")


def write_splits(
    datasets: Sequence[Dataset], output: Path, shards: int = 4, max_side: int = 0
) -> list[tuple[Manifest, Tally]]:
    """Write splits, all or none, and their manifests last; also tells what became of the images.

    max_side: photos are shrunk to it, pixels; 0 leaves them as they are.

    Raises DataError where there is nothing to write or a number cannot be.
    """
    if shards < 1:
        raise DataError(f"expected 1 shard or more, found {shards}")
    if max_side and max_side < SMALLEST_SIDE:
        raise DataError(f"--max-side: expected 0, or {SMALLEST_SIDE} or more, found {max_side}")
    for dataset in datasets:
        annotations.check_usable(dataset)
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.glob(".partial-*"):  # of a killed run
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output) as folder:
        partial = Path(folder)
        written = [_write_partial(dataset, partial, shards, max_side) for dataset in datasets]
        _publish(partial, output, [manifest for manifest, _ in written])
    return [(dataclasses.replace(manifest, directory=output), tally) for manifest, tally in written]


def _write_partial(
    dataset: Dataset, partial: Path, shards: int, max_side: int
) -> tuple[Manifest, Tally]:
    shards = min(shards, len(dataset.annotations))
    names = [f"{dataset.split}-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    tally = _write_shards(dataset, [partial / name for name in names], max_side)
    if not tally.digests:
        raise DataError("\n".join(annotations.describe_problems(tally.problems)))
    content = json.dumps([dataset.labels, sorted(tally.digests)]).encode()
    manifest = Manifest(
        directory=partial,
        split=dataset.split,
        count=len(tally.digests),
        labels=dataset.labels,
        shards=tuple(_shard(partial / name) for name in names),
        fingerprint=hashlib.sha256(content).hexdigest(),
        photos=tuple(sorted(tally.photos)),
    )
    (partial / "labels.txt").write_text(
        "".join(f"{label}\n" for label in dataset.labels), encoding="utf-8"
    )
    (partial / "label_map.pbtxt").write_text(label_map(dataset.labels), encoding="utf-8")
    text = _manifest_text(manifest)
    (partial / f"{dataset.split}.json").write_text(text, encoding="utf-8")
    return manifest, tally


def _write_shards(dataset: Dataset, paths: list[Path], max_side: int) -> Tally:
    """Deal the images out to the shards; one that cannot be read any more is left out."""
    writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
    tally = Tally()
    for annotation in tqdm(
        dataset.annotations, desc=f"writing {dataset.split}", unit="image", disable=None
    ):
        try:
            picture = stored(annotation, max_side)
        except BadImageError as error:
            place = str(annotation.image_path)
            tally.problems.append(Problem(place, None, "bad image", str(error), "image"))
            continue
        example = to_example(annotation, dataset.labels, picture)
        serialized = example.SerializeToString(deterministic=True)
        writers[len(tally.digests) % len(writers)].write(serialized)
        tally.photos.append(photo_id(annotation.image_path))
        tally.digests.append(hashlib.sha256(serialized).hexdigest())
        tally.encoded_again += picture.encoded_again
    for writer, path in zip(writers, paths, strict=True):
        writer.flush()  # `close` says nothing of a full disk
        writer.close()
        disk.sync_file(path)
    return tally


def _publish(partial: Path, output: Path, manifests: Sequence[Manifest]) -> None:
    """Put whole splits in place: the old manifests go first, the new ones come last."""
    for manifest in manifests:
        (output / f"{manifest.split}.json").unlink(missing_ok=True)
        for path in output.glob(f"{manifest.split}-?????-of-?????.tfrecord"):
            path.unlink()
    shards = [shard.name for manifest in manifests for shard in manifest.shards]
    for name in [*shards, "labels.txt", "label_map.pbtxt"]:
        (partial / name).replace(output / name)
    for manifest in manifests:
        (partial / f"{manifest.split}.json").replace(output / f"{manifest.split}.json")


def _shard(path: Path) -> Shard:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(path.name, path.stat().st_size, digest)


def _manifest_text(manifest: Manifest) -> str:
    fields = dataclasses.asdict(manifest)
    del fields["directory"]  # records may be moved
    return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def label_map(labels: tuple[str, ...]) -> str:
    """A StringIntLabelMap in protobuf's text format; its ids start at 1."""
    items = [
        # Labels are printable, so JSON's quoting is protobuf's.
        f"item {{\n  id: {number}\n  name: {json.dumps(label, ensure_ascii=False)}\n}}\n"
        for number, label in enumerate(labels, 1)
    ]
    return "".join(items)


def load_manifest(directory: Path, split: str) -> Manifest:
    """The manifest of a split whose shards all stand there with their sizes in bytes.

    Raises ManifestError where it is missing or is not what `write_splits` wrote.
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


def stored(annotation: Annotation, max_side: int = 0) -> Picture:
    """The image as it is to be stored: its file, or upright pixels encoded again.

    That happens to images with an EXIF orientation, which tf.io.decode_image ignores, to WebP and
    TIFF, to those that it reads otherwise than what decodes in front of the served network, and to
    those that are larger than `max_side`.

    Raises BadImageError where the file is no longer what it was when the split was read.
    """
    encoded, image, info = annotations.read_image(annotation.image_path)
    if (info.width, info.height) != (annotation.width, annotation.height):
        raise BadImageError(f"expected {annotation.width}x{annotation.height}, as it was just now")
    small = shrink(image, max_side) if 0 < max_side < max(info.width, info.height) else image
    height, width = small.shape[:2]
    as_it_is = info.format in AS_THEY_ARE and info.orientation == 1 and small is image
    if as_it_is and _tensorflow_reads(encoded, image):
        return Picture(encoded, info.format.lower(), width, height, False)
    kind = "jpeg" if info.format == "JPEG" else "png"
    image_bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(f".{kind}", image_bgr, ENCODING[kind])[1].tobytes()
    return Picture(encoded, kind, width, height, True)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """An image whose longer side has so many pixels, each the average of those it stands for."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _tensorflow_reads(encoded: bytes, image: np.ndarray) -> bool:
    """Whether tf.io.decode_image gives the same picture, for it misreads a BMP with a palette."""
    try:
        theirs = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return False
    return theirs.shape == image.shape and cv2.absdiff(theirs, image).mean() < SAME_PICTURE


def to_example(
    annotation: Annotation, labels: tuple[str, ...], picture: Picture
) -> tf.train.Example:
    """One image under the Object Detection API's feature keys."""
    kinds = {
        "bytes": lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)),
        "float": lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value)),
        "int64": lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
    }
    values = _values(annotation, labels, picture)
    features = {key: kinds[FEATURES[key]](value) for key, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _values(
    annotation: Annotation, labels: tuple[str, ...], picture: Picture
) -> dict[str, list[Any]]:
    size = np.array([annotation.width, annotation.height] * 2, np.float32)
    xmin, ymin, xmax, ymax = (annotation.boxes_xyxy / size).T.tolist()
    return {
        "image/height": [picture.height],
        "image/width": [picture.width],
        "image/filename": [annotation.image_path.name.encode()],
        "image/source_id": [annotation.image_id.encode()],
        "image/key/sha256": [hashlib.sha256(picture.encoded).hexdigest().encode()],
        "image/encoded": [picture.encoded],
        "image/format": [picture.format.encode()],
        "image/object/bbox/xmin": xmin,
        "image/object/bbox/xmax": xmax,
        "image/object/bbox/ymin": ymin,
        "image/object/bbox/ymax": ymax,
        "image/object/class/text": [label.encode() for label in annotation.labels],
        "image/object/class/label": [labels.index(label) + 1 for label in annotation.labels],
        "image/object/difficult": annotation.difficult.astype(int).tolist(),
        "image/object/truncated": annotation.truncated.astype(int).tolist(),
    }


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
