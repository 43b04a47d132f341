"""`training records`: writes annotated folders' splits as sharded TFRecords.

Out: what `records` describes. The manifest comes last of all, so a killed writer leaves the older
whole split, or none.
"""

import collections
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from training import disk
from training.data import annotations
from training.data.annotations import Dataset
from training.data.examples import stored_pictures, to_example
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.problems import BadImageError, DataError, Problem, describe_problems
from training.data.records import Manifest, Shard, load_manifest, photo_id
from training.data.tiles import SMALLEST_SIDE, check_tile


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
    tile: int = 0
    """Pixels: store photos that are larger in the tiles of `client detect --tile`, for a network
    that is served so; 0 does not. Those that are cut are not shrunk."""


@dataclasses.dataclass
class Tally:
    """What became of a split's images: a digest of each example, how many were encoded again.

    photos: the `photo_id` of each.
    tiles: how many of them are tiles of larger photos; empty: how many of these show no object.
    """

    digests: list[str] = dataclasses.field(default_factory=list)
    photos: list[str] = dataclasses.field(default_factory=list)
    encoded_again: int = 0
    tiles: int = 0
    empty: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)  # those left out


def write_records(settings: RecordsSettings) -> int:
    """Write the splits and print a report.

    Raises:
        DataError: the folders or the settings do not allow it; no split was changed.
    """
    folders = Folders(settings)
    print("\n".join(folders.notes()))
    write_folders(folders, settings)
    return 0


def write_folders(folders: Folders, settings: RecordsSettings) -> None:
    """As `write_records`, of folders that are open already."""
    datasets = _read_splits(folders, settings)
    _check_labels_agree(settings.output, datasets)
    sizes = {"max_side": settings.max_side, "tile": settings.tile}
    written = write_splits(datasets, settings.output, settings.shards, **sizes)
    for dataset, (manifest, tally) in zip(datasets, written, strict=True):
        _report_split(dataset, manifest, tally)


def _read_splits(folders: Folders, settings: RecordsSettings) -> list[Dataset]:
    """All splits, with one list of labels for all of them."""
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
    if manifest.tile:
        print(f"  {_describe_tiles(dataset, manifest, tally)}")
    if tally.encoded_again:
        print(
            f"  {tally.encoded_again} images turned upright, converted or shrunk, and encoded again"
        )
    for line in describe_problems([*dataset.problems, *tally.problems]):
        print(f"  {line}")


def _describe_tiles(dataset: Dataset, manifest: Manifest, tally: Tally) -> str:
    if not tally.tiles:
        return f"no photo is larger than {manifest.tile} pixels: none was cut into tiles"
    photos = len(dataset.annotations) - len(tally.problems) - (manifest.count - tally.tiles)
    return (
        f"{tally.tiles} of them are {photos} photos in tiles of {manifest.tile} pixels and whole; "
        f"{tally.empty} have no object to find"
    )


def write_splits(
    datasets: Sequence[Dataset], output: Path, shards: int = 4, max_side: int = 0, tile: int = 0
) -> list[tuple[Manifest, Tally]]:
    """Write splits, all or none, and their manifests last; also tells what became of the images.

    max_side: photos are shrunk to it, pixels; 0 leaves them as they are.
    tile: larger photos are cut into tiles of this side, pixels; 0 leaves them whole.

    Raises:
        DataError: there is nothing to write or a number cannot be.
    """
    if shards < 1:
        raise DataError(f"expected 1 shard or more, found {shards}")
    if max_side and max_side < SMALLEST_SIDE:
        raise DataError(f"--max-side: expected 0, or {SMALLEST_SIDE} or more, found {max_side}")
    check_tile(tile)
    for dataset in datasets:
        annotations.check_usable(dataset)
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.glob(".partial-*"):  # of a killed run
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output) as folder:
        partial = Path(folder)
        written = [_write_partial(dataset, partial, shards, max_side, tile) for dataset in datasets]
        _publish(partial, output, [manifest for manifest, _ in written])
    return [(dataclasses.replace(manifest, directory=output), tally) for manifest, tally in written]


def _write_partial(
    dataset: Dataset, partial: Path, shards: int, max_side: int, tile: int
) -> tuple[Manifest, Tally]:
    shards = min(shards, len(dataset.annotations))
    names = [f"{dataset.split}-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    tally = _write_shards(dataset, [partial / name for name in names], max_side, tile)
    if not tally.digests:
        raise DataError("\n".join(describe_problems(tally.problems)))
    content = json.dumps([dataset.labels, sorted(tally.digests)]).encode()
    manifest = Manifest(
        directory=partial,
        split=dataset.split,
        count=len(tally.digests),
        labels=dataset.labels,
        shards=tuple(_shard(partial / name) for name in names),
        fingerprint=hashlib.sha256(content).hexdigest(),
        photos=tuple(sorted(tally.photos)),
        tile=tile,
    )
    (partial / "labels.txt").write_text(
        "".join(f"{label}\n" for label in dataset.labels), encoding="utf-8"
    )
    (partial / "label_map.pbtxt").write_text(label_map(dataset.labels), encoding="utf-8")
    text = _manifest_text(manifest)
    (partial / f"{dataset.split}.json").write_text(text, encoding="utf-8")
    return manifest, tally


def _write_shards(dataset: Dataset, paths: list[Path], max_side: int, tile: int) -> Tally:
    """Deal the images out to the shards; one that cannot be read any more is left out."""
    writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
    tally = Tally()
    for annotation in tqdm(
        dataset.annotations, desc=f"writing {dataset.split}", unit="image", disable=None
    ):
        try:
            parts = list(stored_pictures(annotation, max_side, tile))
        except BadImageError as error:
            place = str(annotation.image_path)
            tally.problems.append(Problem(place, None, "bad image", str(error), "image"))
            continue
        for part, picture in parts:
            example = to_example(part, dataset.labels, picture)
            serialized = example.SerializeToString(deterministic=True)
            writers[len(tally.digests) % len(writers)].write(serialized)
            tally.digests.append(hashlib.sha256(serialized).hexdigest())
        tally.photos += [photo_id(annotation.image_path)] * len(parts)
        if len(parts) > 1:
            tally.tiles += len(parts)
            tally.empty += sum(bool(part.difficult.all()) for part, _ in parts)
        else:
            tally.encoded_again += parts[0][1].encoded_again
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
