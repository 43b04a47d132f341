"""Tells by its layout which format an annotated folder has."""

from pathlib import Path
from types import ModuleType

from training.data.folder_settings import Format
from training.data.formats import coco, csv_labels, tfrecord, voc, yolo
from training.data.formats.annotated_folder import AnnotatedFolder
from training.data.problems import DataError

FORMATS: tuple[ModuleType, ...] = (voc, yolo, coco)
# Made of one of those as a rule, so they count where there is none.
DERIVED: tuple[ModuleType, ...] = (csv_labels, tfrecord)
NAMES = {"voc": voc, "yolo": yolo, "coco": coco, "csv": csv_labels, "tfrecord": tfrecord}
DEPTHS = range(1, 5)  # of VOC2007 below an archive's own folders


def open_folder(directory: Path, form: Format = "auto") -> AnnotatedFolder:
    """The folder in the format that its layout tells; DataError where none or several fit."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    if form != "auto":
        return NAMES[form].Folder(directory)
    return _form(directory).Folder(directory)


def _form(directory: Path) -> ModuleType:
    found = [form for form in FORMATS if form.fits(directory)]
    if len(found) > 1:
        names = " and ".join(form.Folder.format for form in found)
        raise DataError(
            f"{directory}: {names} in one folder; move one of them to its own, or give --format"
        )
    if not found and coco.json_files(directory) and not tfrecord.label_files(directory):
        found = [coco]
    found = found or [form for form in DERIVED if form.fits(directory)][:1]
    if not found:
        forms = (*FORMATS, *DERIVED)
        layouts = "".join(f"\n  {form.Folder.format}: {form.LAYOUT}" for form in forms)
        raise DataError(f"{directory}: no layout that is known here; looked for{layouts}")
    return found[0]


def passed_over(folder: AnnotatedFolder) -> str:
    """What of another format is in there, in words; empty where nothing is."""
    forms = [form for form in DERIVED if form.Folder.format != folder.format]
    found = {
        name: form.label_files(folder.directory) for name, form in NAMES.items() if form in forms
    }
    if folder.format not in {form.Folder.format for form in FORMATS} or not any(found.values()):
        return ""
    files = ", ".join(folder.relative(path) for paths in found.values() for path in paths[:3])
    names = " or ".join(f"--format {name}" for name, paths in found.items() if paths)
    return f"; not read, as they hold the same as a rule: {files} ({names} reads them instead)"


def data_folders(directory: Path) -> list[Path]:
    """The folder, or those in it that hold the data: VOCdevkit's years, an archive's only one."""
    if not directory.is_dir() or voc.is_vocs(directory) or yolo.fits(directory):
        return [directory]
    if coco.fits(directory):
        return [directory]
    parts = (path for depth in DEPTHS for path in directory.glob("*/" * depth + voc.PARTS[0]))
    if years := sorted(path.parent for path in parts if voc.is_vocs(path.parent)):
        return years
    folders = [path for path in directory.iterdir() if path.is_dir() and path.name[0] != "."]
    forms = (voc, *DERIVED)
    known = coco.json_files(directory) or any(form.fits(directory) for form in forms)
    return [directory] if known or len(folders) != 1 else data_folders(folders[0])
