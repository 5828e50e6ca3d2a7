"""Fits are named by what they learn from and how; they are shared, locked, and never taken for finished too early."""

import threading
import time

import pytest

from batseg.training.runs import finished, fit_folder, key_of


def content(campaign, **changes) -> dict:
    data = {
        "sources": {"real": str(campaign / "real"), "synthetic": str(campaign / "synthetic")},
        "counts": {"real": 500, "synthetic": 500},
        "workers": 1,
    }
    return {"module": {"width": 8}, "data": data, "trainer": {"max_steps": 10, "devices": 1}, "seed": 0, **changes}


def test_the_key_depends_on_what_is_learnt_and_not_on_where_or_how_fast(campaign):
    key = key_of(content(campaign))
    same = content(campaign, trainer={"max_steps": 10, "devices": 4, "strategy": "ddp", "checkpoint_every": 7})
    same["data"]["workers"] = 3
    assert key_of(same) == key
    others = [{"seed": 1}, {"module": {"width": 4}}, {"trainer": {"max_steps": 11}}]
    assert len({key_of(content(campaign, **change)) for change in others} | {key}) == 4


def test_a_source_of_which_nothing_is_drawn_does_not_matter(campaign, tmp_path):
    first, second = content(campaign), content(campaign)
    for variant in (first, second):
        variant["data"]["counts"] = {"real": 1000, "synthetic": 0}
    second["data"]["sources"]["synthetic"] = str(tmp_path)
    assert key_of(first) == key_of(second)


def test_the_key_follows_the_content_of_the_files_not_their_place(tmp_path):
    for folder, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "image.tif").write_text(text)
    keys = [key_of({"sources": {"real": str(tmp_path / folder / "*.tif")}}) for folder in "abc"]
    assert keys[0] == keys[1] != keys[2]


def test_one_folder_per_key_whatever_the_name_of_the_row(tmp_path):
    with fit_folder(tmp_path, "hybrid", "0123") as first:
        (first / "last.ckpt").touch()
    with fit_folder(tmp_path, "hybrid_threshold", "0123") as second:
        assert second == first
    with fit_folder(tmp_path, "real", "4567") as other:
        assert other.name == "real-4567"


def test_a_start_that_failed_leaves_no_folder_but_one_that_learnt_does(tmp_path):
    def start(files: tuple[str, ...]) -> None:
        with fit_folder(tmp_path, "real", "0123") as folder:
            for file in files:
                (folder / file).touch()
            raise ValueError("bad input")

    for files, left in ((("config.yaml",), False), (("config.yaml", "last.ckpt"), True)):
        with pytest.raises(ValueError, match="bad input"):
            start(files)
        assert (tmp_path / "real-0123").exists() == left


def test_two_rows_that_share_a_fit_wait_for_one_another(tmp_path):
    order = []

    def use(name: str, seconds: float) -> None:
        with fit_folder(tmp_path, name, "0123"):
            order.append(f"{name} in")
            time.sleep(seconds)
            order.append(f"{name} out")

    first = threading.Thread(target=use, args=("a", 0.3))
    first.start()
    time.sleep(0.1)
    use("b", 0.0)
    first.join()
    assert order == ["a in", "a out", "b in", "b out"]


def test_a_fit_is_finished_when_its_record_is_there(tmp_path):
    assert finished(tmp_path) is None
    (tmp_path / "fit.json").write_text('{"steps": 3}')
    assert finished(tmp_path) == {"steps": 3}
