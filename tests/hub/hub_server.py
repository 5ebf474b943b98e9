"""A model hub on this machine that speaks the Hub's HTTP API as huggingface_hub's client uses it.

Repositories, pre-upload, LFS (basic and multipart), commits of NDJSON, trees and downloads, all in
memory. It refuses, and remembers in `violations`, whatever it does not know: a path, a body, a hash
or a size that does not fit. `fail` makes the next matching request go wrong.

    python tests/hub/hub_server.py 8080      # then HF_ENDPOINT=http://127.0.0.1:8080 HF_TOKEN=...
"""

import base64
import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITE_TOKEN, READ_TOKEN = "hf_localWriteTokenOfJaneForTests01", "hf_localReadTokenOfJaneForTests02"
USER = "jane"
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LICENCES = {"apache-2.0", "mit", "creativeml-openrail-m", "cc-by-4.0", "cc-by-nc-sa-4.0", "other",
            "cc0-1.0", "unknown"}  # fmt: skip
LFS_JSON = "application/vnd.git-lfs+json"
SLUG = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class BrokenError(Exception):
    """The connection is cut."""


@dataclass
class Repo:
    is_private: bool
    commits: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    """Commit -> path -> (content, is it LFS?); in order."""
    messages: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, bytes]:
        return {path: content for path, (content, _) in self.commits[self.head].items()}

    def commit(self, files: dict[str, tuple[bytes, bool]], message: str) -> str:
        listing = json.dumps({p: hashlib.sha1(c).hexdigest() for p, (c, _) in files.items()})
        oid = hashlib.sha1(f"{len(self.commits)}{message}{listing}".encode()).hexdigest()
        self.commits[oid] = files
        self.messages.append(message)
        return oid


@dataclass
class Fault:
    method: str
    path: str
    status: int | None
    times: int


class Hub:
    """The state of the hub, and the server thread in front of it."""

    def __init__(self, port: int = 0, *, chunk_size: int | None = None) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.announced: dict[str, int] = {}
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.chunk_size = chunk_size
        """With one, LFS objects go up in parts of so many bytes."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, path: str, status: int | None = None, times: int = 1) -> None:
        """The next `times` requests like this are answered `status`; None: cut half-way."""
        self.faults.append(Fault(method, path, status, times))

    def add_repo(
        self, name: str, files: dict[str, bytes], *, kind: str = "model", is_private: bool = True
    ) -> Repo:
        repo = self.repos[kind, name] = Repo(is_private)
        repo.commit({".gitattributes": (ATTRIBUTES, False)}, "initial commit")
        if files:
            repo.commit({path: (data, False) for path, data in files.items()}, "by hand")
        return repo

    def puts(self) -> list[str]:
        return [request for request in self.requests if request.startswith("PUT")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    # --- HTTP ---------------------------------------------------------------------------------

    def handle_any(self) -> None:
        split = urlsplit(self.path)
        self.where, self.query = unquote(split.path), parse_qs(split.query)
        self.hub.requests.append(f"{self.command} {self.where}")
        try:
            fault = self._find_fault()
            if fault is not None and fault.status is None:
                self._cut()
                raise BrokenError
            self.body = self._read_body()
            if fault is not None:
                raise RefusedError(int(fault.status or 0), "as the test asked")
            self._answer(*self._route())
        except BrokenError:
            self.close_connection = True
        except RefusedError as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            body = json.dumps({"error": refusal.message}).encode()
            self._answer(refusal.status, body, headers | {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def _find_fault(self) -> Fault | None:
        for fault in self.hub.faults:
            if fault.method == self.command and re.search(fault.path, self.where) and fault.times:
                fault.times -= 1
                return fault
        return None

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _cut(self) -> None:
        """Take in half of what comes, then hang up."""
        self.rfile.read(max(1, int(self.headers.get("Content-Length") or 2) // 2))
        self.connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200, **headers: str) -> tuple[Any, ...]:
        body = json.dumps(value).encode()
        return status, body, {"Content-Type": "application/json", **headers}

    def _violation(self, message: str, status: int = 400) -> RefusedError:
        self.hub.violations.append(f"{self.command} {self.where}: {message}")
        return RefusedError(status, message)

    # --- Who may ----------------------------------------------------------------------------------

    def _right(self) -> str:
        """write, read, or nothing for who gave no token."""
        given = self.headers.get("Authorization", "")
        if not given:
            return ""
        rights = {f"Bearer {WRITE_TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
        if given not in rights:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return rights[given]

    def _find(self, kind: str, name: str, *, to_write: bool = False) -> Repo:
        right = self._right()
        repo = self.hub.repos.get((kind, name))
        is_mine = name.startswith(f"{USER}/") and right != ""
        if repo is None or (repo.is_private and not is_mine):
            status = 404 if right else 401
            raise RefusedError(status, "Repository not found", "RepoNotFound")
        if to_write and not (is_mine and right == "write"):
            raise RefusedError(403, "You don't have the rights to write here")
        return repo

    def _at(self, repo: Repo, revision: str) -> str:
        oid = repo.head if revision == "main" else revision
        if oid not in repo.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    # --- What is asked ----------------------------------------------------------------------------

    def _route(self) -> tuple[Any, ...]:
        name = r"(?P<name>[\w.-]+/[\w.-]+)"
        kind = r"(?P<kind>model|dataset)s"
        routes = {
            ("POST", r"/api/validate-yaml"): self._validate_yaml,
            ("POST", r"/api/repos/create"): self._create,
            ("GET", rf"/api/{kind}/{name}(/revision/(?P<revision>[^/]+))?"): self._info,
            ("GET", rf"/api/{kind}/{name}/tree/(?P<revision>[^/]+)"): self._tree,
            ("POST", rf"/api/{kind}/{name}/preupload/(?P<revision>[^/]+)"): self._preupload,
            ("POST", rf"/api/{kind}/{name}/commit/(?P<revision>[^/]+)"): self._commit,
            ("POST", rf"/(?P<kind>datasets/)?{name}\.git/info/lfs/objects/batch"): self._batch,
            ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})(/(?P<part>\d+))?"): self._upload,
            ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/complete"): self._complete,
            ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify"): self._verify,
            ("GET", rf"/(?P<kind>datasets/)?{name}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"):
                self._resolve,
        }  # fmt: skip
        method = "GET" if self.command == "HEAD" else self.command
        for (wanted, pattern), answer in routes.items():
            if method == wanted and (match := re.fullmatch(pattern, self.where)):
                found = match.groupdict()
                if "kind" in found:
                    found["kind"] = {"datasets/": "dataset", None: "model"}.get(
                        found["kind"], found["kind"]
                    )
                return answer(**found)  # type: ignore[no-any-return]
        if self.where == "/api/agent-harnesses":  # asked in passing, on no command's behalf
            raise RefusedError(404, "no such list here")
        raise self._violation("not part of the API", 501)

    def _read_json(self, keys: set[str], kind: str = "application/json") -> dict[str, Any]:
        if self.headers.get("Content-Type", "").split(";")[0] != kind:
            raise self._violation(f"expected {kind}")
        try:
            value = json.loads(self.body)
        except ValueError:
            raise self._violation("is no JSON") from None
        if not isinstance(value, dict) or set(value) - keys:
            raise self._violation(f"unknown keys {sorted(set(value) - keys)}")
        return value

    def _validate_yaml(self) -> tuple[Any, ...]:
        asked = self._read_json({"content", "repoType"})
        errors = check_card(asked["content"], asked["repoType"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        if errors:
            answer["error"] = errors[0]
        return self._json(answer, 400 if errors else 200)

    def _create(self) -> tuple[Any, ...]:
        asked = self._read_json({"name", "organization", "visibility", "type"})
        right = self._right()
        if right == "":
            raise RefusedError(401, "Invalid username or password.")
        if right != "write" or asked["organization"] != USER:
            raise RefusedError(
                403, f"You don't have the rights to create in {asked['organization']}"
            )
        if asked["type"] not in {"model", "dataset"} or asked["visibility"] not in {
            "private", "public",
        }:  # fmt: skip
            raise self._violation("visibility or type")
        name = f"{asked['organization']}/{asked['name']}"
        if (asked["type"], name) in self.hub.repos:
            raise RefusedError(409, "You already created this repo")
        self.hub.add_repo(name, {}, kind=asked["type"], is_private=asked["visibility"] == "private")
        return self._json({"url": f"{self.hub.url}/{name}"})

    def _info(self, kind: str, name: str, revision: str | None) -> tuple[Any, ...]:
        repo = self._find(kind, name)
        oid = self._at(repo, revision or "main")
        return self._json({
            "_id": "1", "id": name, "sha": oid, "private": repo.is_private, "tags": [],
            "siblings": [{"rfilename": path} for path in repo.commits[oid]],
        })  # fmt: skip

    def _tree(self, kind: str, name: str, revision: str) -> tuple[Any, ...]:
        repo = self._find(kind, name)
        if self.query.get("recursive") not in (["True"], ["true"]):
            raise self._violation("only whole trees")
        rows = []
        for path, (content, is_lfs) in repo.commits[self._at(repo, revision)].items():
            row: dict[str, Any] = {"type": "file", "path": path, "size": len(content),
                                   "oid": git_oid(content)}  # fmt: skip
            if is_lfs:
                sha256 = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
            rows.append(row)
        return self._json(rows)

    def _preupload(self, kind: str, name: str, revision: str) -> tuple[Any, ...]:
        repo = self._find(kind, name, to_write=True)
        asked = self._read_json({"files"})
        there = repo.commits[self._at(repo, revision)]
        files = []
        for file in asked["files"]:
            if set(file) != {"path", "sample", "size"} or not isinstance(file["size"], int):
                raise self._violation("a file is path, sample and size")
            if len(base64.b64decode(file["sample"], validate=True)) != min(512, file["size"]):
                raise self._violation("the sample is the first 512 bytes")
            is_lfs = file["path"].endswith((".safetensors", ".png"))
            content, _ = there.get(file["path"], (None, False))
            oid = None
            if content is not None:
                oid = hashlib.sha256(content).hexdigest() if is_lfs else git_oid(content)
            files.append({
                "path": file["path"], "uploadMode": "lfs" if is_lfs else "regular",
                "shouldIgnore": False, "oid": oid,
            })  # fmt: skip
        return self._json({"files": files})

    def _batch(self, kind: str, name: str) -> tuple[Any, ...]:
        self._find(kind, name, to_write=True)
        if self.headers.get("Accept") != LFS_JSON:
            raise self._violation(f"Accept must be {LFS_JSON}")
        asked = self._read_json({"operation", "transfers", "objects", "hash_algo", "ref"}, LFS_JSON)
        if asked["operation"] != "upload" or asked["hash_algo"] != "sha256":
            raise self._violation("only uploads by sha256")
        wanted = "multipart" if self.hub.chunk_size else "basic"
        if wanted not in asked["transfers"]:
            raise self._violation(f"the client does not offer {wanted}")
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.blobs:
                self.hub.announced[one["oid"]] = one["size"]
                answer |= {"authenticated": True, "actions": self._actions(one["oid"], one["size"])}
            objects.append(answer)
        return self._json({"transfer": wanted, "objects": objects}, **{"Content-Type": LFS_JSON})

    def _actions(self, oid: str, size: int) -> dict[str, Any]:
        place = f"{self.hub.url}/lfs/{oid}"
        verify = {"href": f"{place}/verify"}
        if not self.hub.chunk_size:
            return {"upload": {"href": place}, "verify": verify}
        parts = range(1, -(-size // self.hub.chunk_size) + 1)
        header = {str(number): f"{place}/{number}" for number in parts}
        header["chunk_size"] = str(self.hub.chunk_size)
        return {"upload": {"href": f"{place}/complete", "header": header}, "verify": verify}

    def _upload(self, oid: str, part: str | None) -> tuple[Any, ...]:
        if oid not in self.hub.announced:
            raise self._violation("an object nobody announced", 404)
        if part is not None:
            if len(self.body) > (self.hub.chunk_size or 0):
                raise self._violation("a part above the chunk size")
            self.hub.parts[oid, int(part)] = self.body
            return 200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}
        self._keep(oid, self.body)
        return 200, b"", {}

    def _complete(self, oid: str) -> tuple[Any, ...]:
        asked = self._read_json({"oid", "parts"}, LFS_JSON)
        body = b""
        for part in asked["parts"]:
            data = self.hub.parts[oid, part["partNumber"]]
            if part["etag"] != f'"{hashlib.md5(data).hexdigest()}"':
                raise self._violation("an etag that is not the part's")
            body += data
        self._keep(oid, body)
        return self._json({})

    def _keep(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid or len(body) != self.hub.announced[oid]:
            raise self._violation("not the bytes that were announced")
        self.hub.blobs[oid] = body

    def _verify(self, oid: str) -> tuple[Any, ...]:
        asked = self._read_json({"oid", "size"})
        if asked["oid"] != oid or len(self.hub.blobs.get(oid, b"")) != asked["size"]:
            raise self._violation("not what was uploaded")
        return self._json({})

    def _commit(self, kind: str, name: str, revision: str) -> tuple[Any, ...]:
        repo = self._find(kind, name, to_write=True)
        if self.headers.get("Content-Type") != "application/x-ndjson":
            raise self._violation("expected NDJSON")
        lines = [json.loads(line) for line in self.body.splitlines()]
        head = lines[0]
        if head["key"] != "header" or not head["value"].get("summary"):
            raise self._violation("the first line is the header")
        if head["value"].get("parentCommit") not in (None, repo.head):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[self._at(repo, revision)])
        for line in lines[1:]:
            value, path = line["value"], line["value"]["path"]
            if path.startswith("/") or ".." in path.split("/"):
                raise self._violation(f"path {path}")
            if line["key"] == "file" and value.get("encoding") == "base64":
                files[path] = (base64.b64decode(value["content"], validate=True), False)
            elif line["key"] == "lfsFile" and value.get("algo") == "sha256":
                blob = self.hub.blobs.get(value["oid"])
                if blob is None or len(blob) != value["size"]:
                    raise self._violation(f"{path}: its LFS object is not there")
                files[path] = (blob, True)
            elif line["key"] == "deletedFile" and path in files:
                del files[path]
            else:
                raise self._violation(f"unknown operation {line['key']}")
        oid = repo.commit(files, head["value"]["summary"])
        return self._json({"success": True, "commitOid": oid, "hookOutput": "",
                           "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})  # fmt: skip

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> tuple[Any, ...]:
        repo = self._find(kind, name)
        oid = self._at(repo, revision)
        if path not in repo.commits[oid]:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        content, is_lfs = repo.commits[oid][path]
        etag = hashlib.sha256(content).hexdigest() if is_lfs else git_oid(content)
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if is_lfs:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return 206, content[start:], headers
        return 200, content, headers | {"Content-Length": str(len(content))}


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def check_card(text: str, kind: str) -> list[str]:
    """What the Hub's own check of a card's metadata would say; the rules that matter here."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        return ["metadata is missing"]
    head = yaml.safe_load(match[1])
    errors = []

    def expect(is_right: bool, key: str) -> None:
        if not is_right:
            errors.append(f'"{key}" is not valid')

    expect(head.get("license", "unknown") in LICENCES, "license")
    if head.get("license") == "other":
        expect(bool(re.fullmatch(r"[a-z0-9.-]+", head.get("license_name") or "")), "license_name")
        expect(str(head.get("license_link", "")).startswith("https://"), "license_link")
    languages = head.get("language", "en")
    expect(bool(re.fullmatch("[a-z]{2,3}", str(languages))), "language")
    expect(all(isinstance(tag, str) for tag in head.get("tags") or []), "tags")
    if kind == "dataset":
        expect("size_categories" in head and "configs" in head, "size_categories")
        return errors
    expect(head.get("library_name") == "diffusers", "library_name")
    expect(head.get("pipeline_tag") == "text-to-image", "pipeline_tag")
    if "base_model" in head:
        expect(bool(SLUG.fullmatch(head["base_model"])) and "/" in head["base_model"], "base_model")
    expect(all(SLUG.fullmatch(name) for name in head.get("datasets", [])), "datasets")
    for model in head.get("model-index", []):
        for result in model["results"]:
            expect({"type"} <= set(result["task"]), "model-index[0].results[0].task")
            expect({"type", "name"} <= set(result["dataset"]), "model-index[0].results[0].dataset")
            for metric in result["metrics"]:
                is_number = isinstance(metric.get("value"), int | float)
                expect(bool(metric.get("type")) and is_number, "model-index[0].results[0].metrics")
    return errors


if __name__ == "__main__":
    hub = Hub(int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    sys.stdout.write(f"export HF_ENDPOINT={hub.url} HF_TOKEN={WRITE_TOKEN} HF_HUB_DISABLE_XET=1\n")
    sys.stdout.flush()
    hub.server.serve_forever()
