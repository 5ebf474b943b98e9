"""A hub that refuses, fails or hangs up: one line, nothing half-pushed, and the next goes on."""

import pytest

from echodiff.__main__ import main

# huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ALWAYS = 99
FAULTS = {
    "401": ("POST", "/api/repos/create", 401, "the hub rejects the token"),
    "403": ("POST", "/preupload/", 403, "this token has no permission"),
    "404": ("POST", "/preupload/", 404, "no such repository"),
    "409": ("POST", "/commit/", 409, "the repository changed in the meantime"),
    "412": ("POST", "/commit/", 412, "the repository changed in the meantime"),
    "413": ("POST", "/objects/batch", 413, "file too large for the hub"),
    "429": (
        "POST",
        "/preupload/",
        429,
        "too many requests to the hub: run the command again later, it resumes",
    ),
    "500": ("POST", "/commit/", 500, "the hub failed: run the command again, it resumes"),
    "503 of LFS": ("PUT", "/lfs/", 503, "the hub failed: run the command again, it resumes"),
    "cut in an upload": ("PUT", "/lfs/", None, "the connection broke"),
    "cut in the commit": ("POST", "/commit/", None, "the connection broke"),
    "broken card": ("POST", "/validate-yaml", 400, "the hub refused (400"),
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client waits between its five tries."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_the_next_push_goes_on(push, hub, name):
    method, path, status, said = FAULTS[name]
    hub.fail(method, path, status, times=ALWAYS)
    code, out, err = push("--yes")
    assert code == 2
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert said in errors[0]
    assert errors[0].startswith("echodiff push: error: --repo jane/hearts: ")
    assert "Traceback" not in err
    assert "Retrying" not in err
    assert "pushed:" not in out
    repo = hub.repos.get(("model", "jane/hearts"))
    assert repo is None or set(repo.files) == {".gitattributes"}

    uploaded = set(hub.blobs)
    hub.faults.clear()
    hub.requests.clear()
    assert push("--yes")[0] == 0
    repo = hub.repos["model", "jane/hearts"]
    assert len(repo.messages) == 2
    assert "README.md" in repo.files
    # What went up before is not sent again.
    assert not {f"PUT /lfs/{oid}" for oid in uploaded} & set(hub.requests)


@pytest.mark.parametrize("status", [500, 429, None])
def test_a_passing_fault_is_waited_for(push, hub, status):
    hub.fail("PUT", "/lfs/", status)
    assert push("--yes")[0] == 0


def test_a_commit_that_was_cut_changes_nothing_of_what_was_there(push, hub, scored):
    assert push("--yes")[0] == 0
    repo = hub.repos["model", "jane/hearts"]
    before = dict(repo.files)
    hub.fail("POST", "/commit/", None)
    assert push(*scored, "--yes")[0] == 2
    assert repo.files == before
    assert push(*scored, "--yes")[0] == 0
    assert "metrics.json" in repo.files


def test_without_a_token_nothing_is_asked(push, hub, place, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    status, _, err = push("--yes")
    assert status == 2
    assert "--yes: no token found: run `hf auth login`, or set HF_TOKEN" in err
    assert hub.requests == []
    assert push()[0] == 0


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hf_localReadTokenOfJaneForTests02", "(403: You don't have the rights"),
        ("hf_ofNobodyAnywhereAtAll000000000", "the hub rejects the token"),
    ],
)
def test_a_token_without_rights_is_told(push, hub, monkeypatch, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    status, _, err = push("--yes")
    assert status == 2
    assert said in err
    assert token not in err
    assert hub.repos == {}


def test_a_name_of_somebody_else_is_told(push, hub):
    status, _, err = push("--yes", repo="bob/hearts")
    assert status == 2
    assert "the name is another user's" in err


def test_a_name_that_is_taken_is_left_alone(push, hub):
    repo = hub.add_repo("jane/hearts", {"thesis.bin": b"x"})
    status, _, err = push("--yes")
    assert status == 2
    assert "--repo jane/hearts: this repository holds files that no push wrote" in err
    assert len(repo.messages) == 2
    hub.add_repo("jane/empty", {})
    assert push("--yes", repo="jane/empty")[0] == 0


def test_where_no_hub_is_there_is_one_line(push, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, _, err = push("--yes")
    assert status == 2
    assert "--repo jane/hearts: nothing answers at http://127.0.0.1:9: is HF_ENDPOINT right?" in err


# --- The way back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jane/nothing", "no such repository, or this token has no access to it (404"),
        ("jane/hearts@v9", "there is no such revision (404)"),
        ("../hearts", "expected USER/NAME"),
        ("jane/hearts@", "missing revision after the @"),
    ],
)
def test_what_cannot_be_pulled_is_one_line(push, hub, place, capsys, name, said):
    assert push("--yes")[0] == 0
    assert main(["pull", name]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (place / "runs/hearts").exists()


def test_a_fault_on_the_way_back_leaves_nothing_behind(push, hub, place, capsys):
    assert push("--yes")[0] == 0
    hub.fail("GET", "/resolve/.*_weights.safetensors", 500, times=ALWAYS)
    assert main(["pull", "jane/hearts"]) == 2
    assert "the hub failed" in capsys.readouterr().err
    assert not (place / "runs/hearts").exists()
    hub.faults.clear()
    assert main(["pull", "jane/hearts"]) == 0


def test_a_file_that_was_changed_on_the_hub_is_not_used(push, hub, place, capsys):
    assert push("--yes")[0] == 0
    repo = hub.repos["model", "jane/hearts"]
    name = "pytorch_lora_weights.safetensors"
    content, _ = repo.commits[repo.head][name]
    files = repo.commits[repo.head] | {name: (content[:-1] + b"\1", True)}
    repo.commit(files, "by somebody")
    for argv in (["pull", "jane/hearts"], ["pull", "hub:jane/hearts@main"]):
        assert main(argv) == 2
        err = capsys.readouterr().err
        assert f"{name} differs from the file that was pushed (SHA-256)" in err
    assert not (place / "runs/hearts").exists()


def test_a_repository_of_others_is_no_push(hub, place, capsys):
    hub.add_repo("bob/other", {"README.md": b"---\n---\n", "run.json": b"{}"}, is_private=False)
    assert main(["pull", "bob/other"]) == 2
    assert "hub:bob/other: has no push.json: it was not pushed by echodiff" in (
        capsys.readouterr().err
    )
