"""What a data card and the base's licence say of weights decides whether they may go up."""

import json

import pytest
from huggingface_hub import ModelCard

from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.published import hash_images

# huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CARD = "---\npretty_name: Ours\nlicense: {licence}\n{more}---\nOur frames.\n"
SHARED = "echodiff_weights_may_be_shared: {}\n"


def card(licence="mit", shared='"yes"', more=""):
    return CARD.format(licence=licence, more=SHARED.format(shared) + more)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "the training data have no data card: their licence is unknown"),
        (card("unknown"), "Ours: its data card names no licence"),
        (card("other"), "Ours: its licence is `other`, without a name and a link"),
        (card(shared='"no"'), "Ours: its data card forbids sharing weights (mit)"),
        (card(shared="no"), "Ours: its data card forbids sharing weights (mit)"),
        (card(shared="ask"), "Ours: its data card leaves open whether weights may be shared (mit)"),
        (CARD.format(licence="mit", more=""), "leaves open whether weights may be shared"),
        (shipped("data_cards/camus.md"), "CAMUS: its data card forbids sharing weights"
                                         " (cc-by-nc-sa-4.0)"),
        (shipped("data_cards/echonet-dynamic.md"),
         "leaves open whether weights may be shared (echonet-dynamic-research-use-agreement)"),
    ],
)  # fmt: skip
def test_without_leave_nothing_is_written(push, place, hub, with_card, text, said):
    with_card(text if isinstance(text, str | None) else text.read_text())
    status, out, _ = push("--yes")
    assert status == 1
    assert f"refused: {said}" in out or said in out
    assert "--accept REASON" in out
    assert hub.requests == []
    assert not (place / "push").exists()


@pytest.mark.parametrize("text", [card(), card(shared="yes"), card("cc0-1.0")])
def test_with_leave_it_goes_up(push, hub, with_card, text):
    with_card(text)
    assert push("--yes")[0] == 0


def test_an_accepted_objection_stands_in_the_card(push, place, hub, with_card):
    with_card(shipped("data_cards/camus.md").read_text())
    status, out, _ = push("--yes", "--accept", "CREATIS agreed | in writing")
    assert status == 0
    assert "accepted: CAMUS: its data card forbids sharing weights" in out
    text = hub.repos["model", "jane/hearts"].files["README.md"].decode()
    assert "**Pushed over objections.** CAMUS: its data card forbids sharing weights" in text
    assert "*CREATIS agreed \\| in writing*" in text
    # Share-alike and the base's licence both hold.
    head = ModelCard(text).data
    assert head.license == "other"
    assert head.license_name == "creativeml-openrail-m-and-cc-by-nc-sa-4.0" or (
        head.license_name == "cc-by-nc-sa-4.0-and-creativeml-openrail-m"
    )
    assert head.license_link.startswith("https://")
    assert "S. Leclerc et al." in text


def test_no_card_of_a_folder_takes_away_what_one_of_its_sources_forbids(push, with_card):
    data = with_card(card())
    rows = [frame.to_row() for frame in load_frames(data)]
    rows[0]["source"] = "camus"
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Which of the rows were trained on decides.
    status, out, _ = push()
    in_training = (
        rows[0]["file_name"]
        in json.loads((data.parent / "runs/ours/run.json").read_text())["train"]
    )
    assert status == int(in_training)
    for row in rows:
        row["source"] = "camus"
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = push()
    assert status == 1
    assert "refused: CAMUS: its data card forbids" in out


def test_a_base_of_unknown_licence_is_refused(push, finished, edit, place):
    edit(place / "runs/ours/run.json", base="someone/something")
    status, out, _ = push()
    assert status == 1
    assert "refused: someone/something: its licence is unknown" in out
    assert push("--base-model", "runwayml/stable-diffusion-v1-5")[0] == 0


def test_the_gate_holds_for_images_too(push, with_card):
    with_card(card(shared='"no"'))
    status, out, _ = push("--dataset", "generated/asd-1")
    assert status == 1
    assert "Ours: its data card forbids sharing weights" in out


# --- Audits ---------------------------------------------------------------------------------------


def test_weights_without_an_audit_are_refused(push, place, hub):
    (place / "runs/ours/privacy.json").unlink()
    status, out, _ = push("--yes")
    assert status == 1
    assert "refused: these weights were not audited: `echodiff audit RUN --out DIR`" in out
    assert hub.requests == []
    assert not (place / "push").exists()


def test_weights_with_a_failed_audit_go_up_with_a_reason_that_stands_in_the_card(
    push, place, hub, audit
):
    run, folder = place / "runs/ours", place / "generated/asd-1"
    audit(run, folder, passed=False, verdict="Weights failed: the set is known (p 0.001).")
    said = "the privacy audit of these weights: Weights failed: the set is known (p 0.001)."
    status, out, _ = push()
    assert status == 0
    assert f"--yes will be refused: {said}" in out
    status, out, _ = push("--yes")
    assert status == 1
    assert f"refused: {said}" in out
    assert push("--yes", "--accept", "the steward agreed")[0] == 0
    card = hub.repos["model", "jane/hearts"].files["README.md"].decode()
    assert "**Weights failed: the set is known" in card
    assert "**Pushed over objections.** the privacy audit of these weights" in card
    assert "*the steward agreed*" in card


def test_weights_with_a_reduced_audit_are_refused(push, place, hub, audit):
    """--attempts 1 --max-frames 20 would pass nearly everything."""
    run, folder = place / "runs/ours", place / "generated/asd-1"
    audit(run, folder, reduced=["--attempts 1, usually 8"])
    status, out, _ = push("--yes")
    assert status == 1
    assert "refused: the privacy audit of these weights was reduced: --attempts 1, usually 8" in out
    assert hub.requests == []
    assert push("--yes", "--accept", "the steward agreed")[0] == 0


def test_images_need_an_audit_of_their_own(push, place, hub, audit):
    run, folder = place / "runs/ours", place / "generated/asd-1"
    flags = ("--dataset", "generated/asd-1", "--yes")
    audit(run, folder, sets=[])
    status, out, _ = push(*flags, repo="jane/drawn")
    assert status == 1
    assert "refused: these images were not audited" in out
    failed = {"sha256": hash_images(folder), "passed": False, "verdict": "failed: 2 copies."}
    audit(run, folder, sets=[failed])
    status, out, _ = push(*flags, repo="jane/drawn")
    assert status == 1
    assert "refused: the privacy audit of these images: failed: 2 copies." in out
    # What the weights tell is no matter of the images.
    audit(run, folder, passed=False, verdict="Weights failed: the set is known.")
    assert push(*flags, repo="jane/drawn")[0] == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"passed": "yes"}, "'passed' must be true or false"),
        ({"sets": [{"sha256": "0"}]}, "a set has no 'passed'"),
        ({"verdict": 3}, "'verdict' must be text"),
        ({"reduced": "no"}, "'reduced' must be a list of text"),
    ],
)
def test_an_audit_of_another_form_is_refused(push, place, audit, fields, said):
    audit(place / "runs/ours", place / "generated/asd-1", **fields)
    status, _, err = push()
    assert status == 2
    assert said in err
