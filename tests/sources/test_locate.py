"""A source in params.yaml is a known name, a pinned Hub id or a path; anything else is refused."""

import subprocess
from pathlib import Path

import pytest

from stages.core.errors import DataError, ParamsError
from stages.sources.locate import is_local, locate_data, locate_model
from tests.support.hub_server import REVISION
from tests.support.model_files import sha256, write_files


def test_unknown_name_gets_a_suggestion(temp: Path) -> None:
    with pytest.raises(ParamsError, match=r"data\.source: 'movie-review' .*mean movie-reviews\?"):
        locate_data("movie-review", temp)
    with pytest.raises(ParamsError, match=r"model\.source: .*mean all-MiniLM-L6-v2\?") as caught:
        locate_model("all-MiniLM-L6", temp)
    assert "all-mpnet-base-v2" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/name", "pin a 40-hex revision: owner/name@"),
        ("owner/name@main", "pin a 40-hex revision: owner/name@"),
        (f"owner/name@{REVISION.upper()}", "pin a 40-hex revision: owner/name@"),
        (f"../../etc@{REVISION}", "is no known name and no path"),
        (f"a/b..c@{REVISION}", "is no path, and no Hub id"),
        (f"a/b@{REVISION}/../x", "is no path, and no Hub id"),
        (f"-a/b@{REVISION}", "is no known name and no path"),
        (f"a/b@{REVISION}\n", "is no known name and no path"),
        (f"https://host/a/b@{REVISION}", "is no known name and no path"),
        ("x" * 900, "is no known name and no path"),
        ("data/raw/missing.csv", "is no known name and no path"),
    ],
)
def test_what_is_neither_name_nor_id_nor_path_is_refused(
    source: str, message: str, temp: Path
) -> None:
    with pytest.raises(ParamsError) as caught:
        locate_data(source, temp)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_paths_are_local(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n")
    assert is_local(str(file), "data")
    assert not is_local("movie-reviews", "data")
    assert not is_local(f"owner/name@{REVISION}", "data")


def test_local_folder_gives_its_splits(
    tmp_path: Path, temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_files(tmp_path / "d", {"train.csv": b"1", "test.tsv": b"2", "extra.csv": b"3"})
    found = locate_data(str(folder), temp)
    assert found.splits == {"train": (folder / "train.csv",), "test": (folder / "test.tsv",)}
    assert found.sha256 == sha256(f"test:{sha256(b'2')}\ntrain:{sha256(b'1')}\n".encode())
    assert "extra.csv" in capsys.readouterr().out


def test_local_file_of_another_kind_is_refused(tmp_path: Path, temp: Path) -> None:
    (tmp_path / "mine.docx").write_bytes(b"")
    with pytest.raises(ParamsError, match=r"expected one of \.csv"):
        locate_data(str(tmp_path / "mine.docx"), temp)


def test_a_pattern_names_several_files_in_their_order(
    tmp_path: Path, temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"a-2.csv": b"2", "a-1.CSV.gz": b"1", "a-3.md": b"3", "b.csv": b"4"}
    folder = write_files(tmp_path / "d", names)
    found = locate_data(f"{folder}/a-*", temp)
    assert found.splits == {"all": (folder / "a-1.CSV.gz", folder / "a-2.csv")}
    assert found.sha256 == sha256(f"all:{sha256(b'1')}\nall:{sha256(b'2')}\n".encode())
    assert found.is_local
    assert is_local(f"{folder}/a-*", "data")
    assert f"ignored: {folder}/a-3.md" in capsys.readouterr().out
    with pytest.raises(ParamsError, match=r"c-\*: matches no file with one of the endings"):
        locate_data(f"{folder}/c-*", temp)


@pytest.mark.parametrize("source", ["in/*", "in/*.*", "in"])
def test_what_desktops_and_editors_leave_is_no_data(
    source: str, tmp_path: Path, temp: Path
) -> None:
    folder = tmp_path / "in/train" if source == "in" else tmp_path / "in"
    folder.mkdir(parents=True)
    (tmp_path / "in/test.csv").touch()
    for name in ("a.csv", "._a.csv", "~$a.xlsx", "a.csv~", ".#a.csv"):
        (folder / name).touch()
    found = locate_data(str(tmp_path / source), temp)
    names = {file.name for files in found.splits.values() for file in files}
    assert names == {"a.csv", "test.csv"}


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path, temp: Path) -> None:
    folder = write_files(tmp_path / "d", {"[1].csv": b"1", "1.csv": b"2"})
    assert locate_data(f"{folder}/[1].csv", temp).sha256 == sha256(b"1")


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002.csv", "train-00001-of-00002.csv", "test.csv"],
        ["train_1.csv", "train_2.csv", "TEST.CSV"],
        ["train.part1.csv.gz", "train.part2.csv.gz", "test-1.csv"],
        ["train/x.csv", "train/y.csv", "test/1.csv"],
    ],
)
def test_a_split_may_be_several_files(names: list[str], tmp_path: Path, temp: Path) -> None:
    for name in names:
        write_files((tmp_path / "d" / name).parent, {Path(name).name: name.encode()})
    folder = tmp_path / "d"
    found = locate_data(str(folder), temp)
    train = (folder / names[0], folder / names[1])
    assert found.splits == {"train": train, "test": (folder / names[2],)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.tsv", "test.csv"], "two files for train: train.csv, train.tsv"),
        (["train-1.csv", "train.csv", "test.csv"], "two files for train: train-1.csv, train.csv"),
        (["train-1.csv", "train-1.jsonl", "test.csv"], "two files for train: train-1.csv, train-1"),
        (["train/a.csv", "train.csv", "test.csv"], "two files for train: a.csv, train.csv"),
        (["train_old.csv", "test.csv"], r"holds no train\.\*"),
        (["a.bin"], r"holds no train\.\* and no test\.\*"),
        (["in/a/1.txt"], "a folder with a folder for each class, such as "),
        (["pos.txt", "neg.txt"], "where each file is a class, join them, and name "),
    ],
)
def test_a_folder_that_gives_no_splits_or_one_twice_is_refused(
    names: list[str], message: str, tmp_path: Path, temp: Path
) -> None:
    for name in names:
        write_files((tmp_path / "d" / name).parent, {Path(name).name: b""})
    with pytest.raises(DataError, match=message):
        locate_data(str(tmp_path / "d"), temp)


def test_a_file_for_each_class_is_read_after_the_command_of_the_message(
    tmp_path: Path, temp: Path
) -> None:
    folder = write_files(tmp_path / "two words", {"pos.txt": b"a\nb\n", "neg.txt": b"c\n"})
    with pytest.raises(DataError) as caught:
        locate_data(str(folder), temp)
    command = str(caught.value).partition("txt: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    lines = (tmp_path / "two words.txt").read_text().splitlines()
    assert lines == ["__label__neg c", "__label__pos a", "__label__pos b"]
