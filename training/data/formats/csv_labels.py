"""Reads the CSV label files that people make for the TensorFlow Object Detection API.

In: *.csv anywhere in DIRECTORY with the columns filename, width, height, class, xmin, ymin, xmax,
ymax, a line an object, and the images anywhere below it, too, found by their names alone. The split
is what the name of the file or of its folder tells: train_labels.csv, valid/_annotations.csv.

The numbers are Pascal VOC's, which such files are made from: pixels from 1, the last one included.
An image without objects is in no line, so pictures that no file names are told.

Format: https://github.com/datitran/raccoon_dataset, xml_to_csv.py
"""

import collections
import csv
from pathlib import Path, PurePosixPath

from training.data import files
from training.data.annotations import Content, Entry, Object
from training.data.decoding import ImageInfo
from training.data.files import IMAGE_SUFFIXES
from training.data.formats import annotated_folder
from training.data.formats.annotated_folder import left_out
from training.data.formats.values import check_area, clean_label, finite, parse_objects
from training.data.problems import BadObjectError, BadSplitError, DataError, Problem, brief

LAYOUT = "*.csv with filename, width, height, class, xmin, ymin, xmax, ymax, and the images"
EDGES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = {"filename", "class", *EDGES}

Row = dict[str, str]


def label_files(directory: Path) -> list[Path]:
    """The CSV files with these columns."""
    return [path for path in files.files_below(directory, (".csv",)) if _is_table(path)]


def fits(directory: Path) -> bool:
    """Whether a folder has this layout."""
    return bool(label_files(directory))


class Folder(annotated_folder.FolderOfFiles):
    """A folder of images and CSV files."""

    format = "CSV"
    what = "CSV labels"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, label_files(directory), LAYOUT)
        self._images = collections.defaultdict(list)
        for path in files.files_below(directory, IMAGE_SUFFIXES):
            self._images[path.name].append(path)
        self._rows: dict[Entry, list[tuple[int, Row]]] = {}

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        self.require_split(split)
        return [entry for path in self._paths[split] for entry in self._entries(path)], []

    def _entries(self, path: Path) -> list[Entry]:
        rows = collections.defaultdict(list)
        try:
            if not self.within(path):
                raise DataError("a link that leaves the folder; put a copy of it in its place")
            for index, row in enumerate(_rows(path)):
                rows[PurePosixPath((row["filename"] or "").replace("\\", "/")).name].append(
                    (index, row)
                )
        except DataError as error:
            raise BadSplitError(self.directory, self.relative(path), str(error)) from error
        entries = {self._entry(name, path): found for name, found in rows.items()}
        self._rows |= entries
        return list(entries)

    def _entry(self, name: str, path: Path) -> Entry:
        image_id, file = PurePosixPath(name).stem, self.relative(path)
        images = [image for image in self._images.get(name, []) if image.parent == path.parent]
        images = images or self._images.get(name, [])
        if len(images) != 1:
            found = ", ".join(map(self.relative, images)) or "none"
            message = f"expected one image {brief(name)} in the folder, found {found}"
            return left_out(image_id, file, file, "missing image", message)
        return self.entry(image_id, file, images[0])

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        rows = self._rows[entry]
        found = parse_objects(rows, entry.file, _object)
        return Content(_claimed_size(rows[0][1]), *found)

    def strays(self) -> list[Problem]:
        """Images that no file names."""
        for paths in self._paths.values():
            for path in paths:
                self._entries(path)
        named = {entry.image_path for entry in self._rows}
        message = "no CSV file names it; one without objects cannot be told from a forgotten one"
        images = sorted(path for paths in self._images.values() for path in paths)
        return [
            Problem(self.relative(path), None, "missing annotation", message, "image")
            for path in images
            if path not in named
        ]


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(next(csv.reader([file.readline(4096)]), [])) >= COLUMNS
    except (OSError, ValueError, csv.Error):
        return False


def _rows(path: Path) -> list[Row]:
    """The lines by their columns; DataError where they cannot be read."""
    try:
        return list(csv.DictReader(files.read_lines(path), restkey="more"))
    except csv.Error as error:
        raise DataError(f"not readable as CSV: {error}") from error


def _object(row: Row, index: int) -> Object:
    label = clean_label(row["class"])
    xmin, ymin, xmax, ymax = (finite(row[edge], edge) for edge in EDGES)
    text = f"x {xmin:g} to {xmax:g}, y {ymin:g} to {ymax:g}"
    check_area(xmax - xmin, ymax - ymin, text)
    return Object(index, label, (xmin - 1, ymin - 1, xmax, ymax), text)


def _claimed_size(row: Row) -> tuple[float, float] | None:
    try:
        width, height = (finite(row.get(side), side) for side in ("width", "height"))
    except BadObjectError:
        return None
    return width, height
