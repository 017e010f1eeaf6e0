"""As much of the hub as push and pull use, on a loopback address."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


@dataclass
class Repository:
    """Commits, the last of them main."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    def sha(self, number: int) -> str:
        return hashlib.sha1(str(number).encode()).hexdigest()

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.sha(len(self.commits) - 1), self.commits[-1]
        for number, files in enumerate(self.commits):
            if self.sha(number) == revision:
                return revision, files
        return None


@dataclass
class Hub:
    """What it holds, what it was asked, and how it lies.

    Attributes
    ----------
    sizes : dict
        By file: a size that is told in place of the true one.
    gone : set
        Files that are told, but not given.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub while the block runs."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(
            self, status: int, value: Any = None, headers: dict[str, str] | None = None
        ) -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            state.asked.append(f"POST {path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "no"})
            elif path == "/api/repos/create":
                self.create(json.loads(data))
            elif path == "/api/validate-yaml":
                wrong = "license: nobody-knows" in json.loads(data)["content"]
                errors = [{"message": '"license" must be one of mit, ...'}] if wrong else []
                self.answer(400 if wrong else 200, {"errors": errors, "warnings": []})
            elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(data)["files"]
                ]
                self.answer(200, {"files": files})
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                self.commit(found[1], data)
            else:
                self.answer(404)

        def create(self, asked: dict[str, Any]) -> None:
            name = f"{asked.get('organization') or 'anna'}/{asked['name']}"
            private = asked.get("private", asked.get("visibility") == "private")
            status = 409 if name in state.repositories else 200
            state.repositories.setdefault(name, Repository(bool(private)))
            self.answer(status, {"url": f"{state.url}/{name}", "name": name})

        def commit(self, name: str, data: bytes) -> None:
            repository = state.repositories[name]
            files = dict(repository.commits[-1])
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            repository.commits.append(files)
            sha = repository.sha(len(repository.commits) - 1)
            self.answer(200, {"commitOid": sha, "commitUrl": f"{state.url}/{name}/commit/{sha}"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            state.asked.append(f"{self.command} {path}")
            found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            match = found or file
            repository = state.repositories.get(match[1]) if match else None
            hidden = self.headers.get("Authorization") != f"Bearer {TOKEN}"
            if match is None or repository is None or (repository.private and hidden):
                self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})
                return
            commit = repository.find(match[2] or "main")
            if commit is None:
                self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
                return
            sha, files = commit
            if found:
                siblings = [
                    {"rfilename": name, "size": state.sizes.get(name, len(data))}
                    for name, data in files.items()
                ]
                self.answer(200, {"id": match[1], "sha": sha, "siblings": siblings})
            elif file and file[3] in files.keys() - state.gone:
                data = files[file[3]]
                tag = f'"{hashlib.sha256(data).hexdigest()}"'
                self.answer(200, data, {"ETag": tag, "X-Repo-Commit": sha})
            else:
                self.answer(404, {}, {"X-Error-Code": "EntryNotFound"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
