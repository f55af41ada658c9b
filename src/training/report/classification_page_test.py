"""The page: whole HTML that needs nothing from outside, and shows users' texts without obeying them."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from src.training.charts.text import printable
from src.training.problems.classification.page import confident_mistakes
from src.training.report.page import OPENING, report_page
from src.training.testing.example_run import evaluation_event, example_run, step_event

VOID = {"meta", "link", "br", "img", "input", "hr"}
# Tags that load something, or run it.
ACTIVE = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "use", "image", "foreignobject"}


class Page(HTMLParser):
    """A page read tag by tag: fails where tags are not balanced, keeps what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "title", "desc"):
            return
        self.words += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]

    def sentence(self) -> str:
        return " ".join(self.words.split())


def test_the_page_is_whole_and_its_ids_are_its_own() -> None:
    page = Page(report_page(example_run()))
    assert len(page.ids()) == len(set(page.ids()))
    told = {name for _, attributes in page.tags for name in (attributes.get("aria-labelledby") or "").split()}
    assert told <= set(page.ids())


def test_the_policy_that_forbids_scripts_stands_before_all_that_varies() -> None:
    assert report_page(example_run()).startswith(OPENING)
    assert "default-src 'none'" in OPENING


def test_the_first_sentence_says_what_came_of_it() -> None:
    sentence = Page(report_page(example_run())).sentence()
    assert (
        "minilm-l6, fine-tuned on 9,000 rows of my.csv, went from 50.0 % (46.9 to 53.1 %) to 87.5 % (85.3 to 89.4 %) "
        "accuracy on 1,000 test rows it never saw: better, by more than noise."
    ) in sentence
    assert "375 are right that were wrong before, and 0 are wrong that were right" in sentence


@pytest.mark.parametrize(
    ("right", "verdict"), [(505, "may well be noise"), (400, "worse, by more than noise"), (500, "may well be noise")]
)
def test_noise_is_not_sold_as_progress(right: int, verdict: str) -> None:
    assert verdict in Page(report_page(example_run(right_after=right, right_before=500))).sentence()


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "</td></table><h1>x</h1>", '" onclick="x', "{{ 7 * 7 }}"]
)
def test_texts_and_class_names_are_shown_and_not_obeyed(evil: str) -> None:
    plain = Page(report_page(example_run()))
    for names in (("bad", evil), tuple(f"{evil}{number}" for number in range(30))):
        page = Page(report_page(example_run(names=names, text=evil + "{row}")))
        assert f"{evil}999" in page.words
        assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


def test_a_name_of_the_recipe_is_escaped_too() -> None:
    page = report_page(dataclasses.replace(example_run(train_file="/data/<b>.csv"), title="<i>"))
    assert "<b>.csv" not in page
    assert "<i>" not in page
    assert "rows of <b>.csv" in Page(page).sentence()


def test_nothing_comes_from_outside_and_nothing_is_run() -> None:
    text = report_page(example_run())
    page = Page(text)
    assert not ACTIVE & {tag for tag, _ in page.tags}
    assert not {"src", "href", "xlink:href", "srcset", "action"} & {key for _, keys in page.tags for key in keys}
    assert re.findall(r"https?:|//|url\(|@import|@font-face", text) == []
    assert "default-src 'none'" in text


def test_control_characters_and_turned_text_cannot_mislead() -> None:
    assert printable("a\x00b\x1b[31m\u202ec\td\ne\ud800") == "a\ufffdb\ufffd[31m\ufffdc d e?"
    page = report_page(example_run(text="null\x00 and turn\u202e {row}"))
    assert "\x00" not in page
    assert "\u202e" not in page
    page.encode()


def test_the_same_run_gives_the_same_page() -> None:
    assert report_page(example_run()) == report_page(example_run())


def test_the_surest_mistakes_come_first_and_twenty_are_enough() -> None:
    mistakes = confident_mistakes(example_run(right_after=900), class_names=("bad", "good"))
    assert [mistake.text for mistake in mistakes] == [f"row {row}" for row in range(999, 979, -1)]
    assert (mistakes[0].true, mistakes[0].predicted) == ("good", "bad")
    assert mistakes[0].confidence == pytest.approx(0.9995)
    sentence = Page(report_page(example_run(right_after=900))).sentence()
    assert "The 20 most confident of 100 mistakes" in sentence


def test_a_long_text_is_cut() -> None:
    [mistake] = confident_mistakes(
        example_run(rows=10, right_after=9, right_before=1, text="long " * 1000), class_names=("bad", "good")
    )
    assert len(mistake.text) < 510
    assert mistake.text.endswith("long …")


def test_a_model_without_mistakes_says_so() -> None:
    sentence = Page(report_page(example_run(right_after=1000))).sentence()
    assert "None: all 1,000 rows are right." in sentence


def test_the_matrix_shows_counts_and_shares() -> None:
    cells = Page(report_page(example_run(names=("bad", "good"), right_after=875))).cells
    assert ["true class", "bad", "good"] in [[cell.strip() for cell in row] for row in cells]
    assert ["bad", "43887.6\u00a0%", "6212.4\u00a0%"] in [[cell.strip() for cell in row] for row in cells]


def test_many_classes_become_a_list_of_pairs_and_the_worst_classes() -> None:
    names = tuple(f"class {number}" for number in range(150))
    page = Page(report_page(example_run(names=names, right_after=800)))
    sentence = page.sentence()
    assert "150 classes are too many for a matrix: these are the 20 pairs confused most" in sentence
    assert "The 50 of 150 classes with the lowest F1" in sentence
    assert len(page.cells) < 120
    perfect = Page(report_page(example_run(names=names, right_after=1000))).sentence()
    assert "No row is predicted as another class." in perfect


def test_one_epoch_is_a_dot_and_no_line() -> None:
    page = Page(report_page(example_run(epochs=1)))
    kinds = [attributes["class"] for tag, attributes in page.tags if tag == "polyline"]
    assert kinds == ["curve raw", "curve smooth"]
    assert [tag for tag, attributes in page.tags if attributes.get("class") == "ring"] == ["circle"]


def test_a_run_that_went_wrong_still_has_a_page() -> None:
    run = example_run(right_after=0, right_before=0)
    events = (step_event(1, epoch=0.5, loss=float("nan")), evaluation_event(1, accuracy=0.0, loss=float("nan")))
    page = Page(report_page(dataclasses.replace(run, events=events, kept_epoch=1)))
    assert "nan" not in page.words
    assert "Accuracy" in page.words


def test_tables_and_pictures_can_be_read_aloud() -> None:
    page = Page(report_page(example_run()))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(picture.get("aria-hidden") == "true" or picture.get("role") == "img" for picture in pictures)
    assert sum(tag == "desc" for tag, _ in page.tags) == 3
    regions = [attributes for _, attributes in page.tags if attributes.get("class") == "wide"]
    assert all(region.get("aria-label") and region.get("tabindex") == "0" for region in regions)
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


def test_the_recipe_and_the_effort_are_told() -> None:
    sentence = Page(report_page(example_run(learning_rate=1e-3))).sentence()
    for setting in ("learning_rate0.001", "max_grad_norm1 ", "load_best_model_at_endtrue", "warmup_ratio0 "):
        assert setting in sentence
    assert "Training time1 min 23 s" in sentence
    assert "model_revision" not in sentence
