"""Which file becomes which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bsq.cli.plan import PIPE, Job, Naming, check_free, plan, read
from bsq.errors import MediaError, SettingsError

NAMING = Naming(lambda p: p.with_suffix(".bsq"), lambda p: p.with_name(p.name + ".bsq"))
SUFFIXES = frozenset({".jpg", ".png"})


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def planned(sources: list[str], output: str | None = None) -> dict[str, str]:
    return {str(job.source): str(job.target) for job in plan(sources, output, SUFFIXES, NAMING)}


@pytest.mark.usefixtures("here")
class TestPlan:
    def test_beside_the_input_by_default(self) -> None:
        assert planned(["a/photo.jpg", "b.png"]) == {"a/photo.jpg": "a/photo.bsq", "b.png": "b.bsq"}

    def test_a_missing_input_is_left_to_fail_alone(self) -> None:
        assert planned(["missing.jpg"]) == {"missing.jpg": "missing.bsq"}

    def test_one_input_to_a_named_file(self) -> None:
        assert planned(["a.jpg"], "new/x.bsq") == {"a.jpg": "new/x.bsq"}

    def test_one_input_to_a_folder(self) -> None:
        make("there/x")
        assert planned(["a/b.jpg"], "there") == {"a/b.jpg": "there/b.bsq"}
        assert planned(["a/b.jpg"], "new/") == {"a/b.jpg": "new/b.bsq"}

    def test_folders_are_searched_at_any_depth_and_keep_their_shape(self) -> None:
        make("in/b.jpg", "in/deep/er/a.PNG", "in/notes.txt", "in/.hidden/c.jpg", "in/._b.jpg")
        assert planned(["in"], "out") == {"in/b.jpg": "out/b.bsq", "in/deep/er/a.PNG": "out/deep/er/a.bsq"}
        assert planned(["in"]) == {"in/b.jpg": "in/b.bsq", "in/deep/er/a.PNG": "in/deep/er/a.bsq"}

    def test_a_file_named_outright_may_have_any_suffix(self) -> None:
        make("in/notes.txt")
        assert planned(["in/notes.txt"]) == {"in/notes.txt": "in/notes.bsq"}

    def test_a_folder_without_pictures(self) -> None:
        make("in/notes.txt")
        with pytest.raises(MediaError, match=r"the folder in holds no files of a known kind"):
            planned(["in"])

    def test_a_folder_without_pictures_among_others_is_left_to_fail_alone(self) -> None:
        Path("in").mkdir()
        Path("a.bsq").mkdir()
        assert planned([".", "in", "a.bsq", "b.jpg"])["b.jpg"] == "b.bsq"
        with pytest.raises(MediaError, match="the folder in holds no files of a known kind"):
            read(Path("in"))

    def test_inputs_that_would_share_a_name_keep_their_suffix(self) -> None:
        assert planned(["a.jpg", "a.png", "b.png"]) == {"a.jpg": "a.jpg.bsq", "a.png": "a.png.bsq", "b.png": "b.bsq"}

    def test_inputs_that_cannot_be_told_apart(self) -> None:
        make("one/a.jpg", "two/a.jpg")
        with pytest.raises(SettingsError, match=r"one/a.jpg and two/a.jpg would both become out/a.jpg.bsq"):
            planned(["one", "two"], "out")

    def test_the_same_input_twice_is_done_once(self) -> None:
        assert planned(["a.jpg", "./a.jpg"]) == {"a.jpg": "a.bsq"}

    def test_pipes(self) -> None:
        assert plan(["-"], None, SUFFIXES, NAMING) == [Job(PIPE, PIPE)]
        assert plan(["-"], "x.bsq", SUFFIXES, NAMING) == [Job(PIPE, Path("x.bsq"))]
        assert plan(["a.jpg"], "-", SUFFIXES, NAMING) == [Job(Path("a.jpg"), PIPE)]

    def test_a_file_called_dash(self) -> None:
        assert plan(["./-"], "x.bsq", SUFFIXES, NAMING) == [Job(Path("-"), Path("x.bsq"))]

    @pytest.mark.parametrize(
        ("sources", "output", "words"),
        [
            (["a.jpg", "b.jpg"], "-", "a pipe takes one result, there are 2 inputs"),
            (["-", "a.jpg"], "out/", "cannot stand among other inputs"),
            (["-", "a.jpg"], None, "a pipe takes one result"),
            (["-"], "out/", "standard input has no name"),
            ([""], None, "the name of an input is empty"),
            (["a.jpg"], "", "the name after -o is empty"),
            (["a.jpg", "b.jpg"], "taken", "taken is a file; a folder is wanted"),
        ],
    )
    def test_requests_that_cannot_be_met(self, sources: list[str], output: str | None, words: str) -> None:
        make("taken")
        with pytest.raises(SettingsError, match=words):
            planned(sources, output)

    def test_names_that_no_file_can_have(self) -> None:
        make("a.png")
        long = "x" * 300
        for sources, output in [([long], None), (["a.png"], long), (["a.png", "b.png"], long)]:
            assert len(planned(sources, output)) == len(sources)
            check_free(Path(long), force=False)

    def test_an_input_is_never_its_own_output(self) -> None:
        make("a.jpg")
        os.link("a.jpg", "link.jpg")
        for output in ("a.jpg", "./a.jpg", "link.jpg"):
            with pytest.raises(SettingsError, match="written over itself"):
                planned(["a.jpg"], output)
