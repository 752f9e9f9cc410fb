"""A small local stand-in for the Hugging Face Hub, for end-to-end tests with the real client.

It speaks the part of the Hub's HTTP protocol that `huggingface_hub` 2.x uses to create repositories,
upload (regular files, LFS basic and multipart, Xet), list, download and load models, and it can be told
to misbehave. It listens on 127.0.0.1 only and keeps everything in one folder.

    with LocalHub() as hub:
        write = hub.add_token("alice")                      # or role="read"
        os.environ["HF_ENDPOINT"] = hub.url                 # before importing huggingface_hub
        hub.fault(r"GET /cdn/", "truncate:1000", times=1)   # next matching answer is cut short
        hub.log                                             # what the client really sent

Needs starlette, uvicorn and PyYAML, all dependencies of gradio or huggingface_hub.

Far over 300 lines: a whole server in one file, so that it can be taken along as it is.
"""

# ruff: noqa: C901, D205, E501, PLR0915, RUF059, SIM105  (a tool of its own, kept as it came)

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import fnmatch
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import struct
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

HOST = "127.0.0.1"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
SDKS = {"gradio", "streamlit", "docker", "static"}
LFS_SUFFIXES = {
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".npz",
    ".npy",
    ".zip",
    ".gz",
    ".tar",
    ".parquet",
    ".arrow",
    ".onnx",
}
REGULAR_LIMIT = 10 * 2**20
REPO_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(?<![.-])")
ZERO_COMMIT = "0" * 40


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class HubError(Exception):
    """Becomes an answer shaped like the Hub's: the client reads X-Error-Code and X-Error-Message."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers)
        self.headers["X-Error-Message"] = message
        if code:
            self.headers["X-Error-Code"] = code


# --------------------------------------------------------------------------- storage


class Store:
    """Blobs by sha256 and one JSON file for each repository, both written atomically."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("blobs", "xorbs", "repos", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.repos: dict[str, dict] = {}
        for path in (root / "repos").glob("*.json"):
            repo = json.loads(path.read_text())
            self.repos[self.key(repo["kind"], repo["id"])] = repo
        xet_index = root / "xet.json"
        self.xet: dict[str, dict] = json.loads(xet_index.read_text()) if xet_index.exists() else {}

    @staticmethod
    def key(kind: str, repo_id: str) -> str:
        return f"{kind}/{repo_id}".lower()

    def _write(self, path: Path, data: bytes) -> None:
        temporary = self.root / "tmp" / secrets.token_hex(8)
        temporary.write_bytes(data)
        os.replace(temporary, path)

    def save(self, repo: dict) -> None:
        self.repos[self.key(repo["kind"], repo["id"])] = repo
        self._write(self._repo_path(repo), json.dumps(repo).encode())

    def drop(self, repo: dict) -> None:
        self.repos.pop(self.key(repo["kind"], repo["id"]), None)
        self._repo_path(repo).unlink(missing_ok=True)

    def _repo_path(self, repo: dict) -> Path:
        return self.root / "repos" / (f"{repo['kind']}--{repo['id']}".replace("/", "--") + ".json")

    def put_blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / "blobs" / digest
        if not path.exists():
            self._write(path, content)
        return digest

    def has_blob(self, digest: str) -> bool:
        return (
            bool(re.fullmatch("[0-9a-f]{64}", digest)) and (self.root / "blobs" / digest).exists()
        )

    def blob(self, digest: str) -> bytes:
        return (self.root / "blobs" / digest).read_bytes()

    def put_xorb(self, name: str, content: bytes) -> None:
        self._write(self.root / "xorbs" / name, content)

    def xorb(self, name: str) -> bytes | None:
        path = self.root / "xorbs" / name
        return path.read_bytes() if re.fullmatch("[0-9a-f]{64}", name) and path.exists() else None

    def put_xet_file(self, file_hash: str, entry: dict) -> None:
        self.xet[file_hash] = entry
        self._write(self.root / "xet.json", json.dumps(self.xet).encode())


# --------------------------------------------------------------------------- xet wire formats
# https://huggingface.co/docs/xet : a xorb is a run of compressed chunks, each with an 8-byte header; a shard
# says which chunks of which xorbs make up a file.


def merkle_hex(raw: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def xorb_chunks(xorb: bytes) -> list[tuple[int, int, int, int]]:
    """(start, end, scheme, unpacked size) of each chunk; the optional footer starts with XETBLOB."""
    chunks, at = [], 0
    while at + 8 <= len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        packed = int.from_bytes(xorb[at + 1 : at + 4], "little")
        unpacked = int.from_bytes(xorb[at + 5 : at + 8], "little")
        if xorb[at] != 0 or at + 8 + packed > len(xorb):
            raise HubError(400, "malformed xorb")
        chunks.append((at, at + 8 + packed, xorb[at + 4], unpacked))
        at += 8 + packed
    if not chunks:
        raise HubError(400, "empty xorb")
    return chunks


def lz4_frame(data: bytes) -> bytes:
    if data[:4] != b"\x04\x22\x4d\x18":
        raise HubError(400, "not an LZ4 frame")
    flags = data[4]
    at = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    out = bytearray()
    while True:
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size == 0:
            return bytes(out)
        block = data[at : at + (size & 0x7FFFFFFF)]
        at += len(block) + (4 if flags & 16 else 0)
        if size & 0x80000000:
            out += block
        else:
            _lz4_block(block, out)


def _lz4_block(block: bytes, out: bytearray) -> None:
    at = 0

    def extended(length: int) -> int:
        nonlocal at
        if length == 15:
            while True:
                more = block[at]
                at += 1
                length += more
                if more != 255:
                    break
        return length

    while at < len(block):
        token = block[at]
        at += 1
        literals = extended(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            return
        offset = block[at] | block[at + 1] << 8
        at += 2
        length = extended(token & 15) + 4
        start = len(out) - offset
        if offset == 0 or start < 0:
            raise HubError(400, "corrupt LZ4 block")
        while length > 0:
            piece = out[start : start + min(length, offset)]
            out += piece
            start += len(piece)
            length -= len(piece)


def unpack_chunk(xorb: bytes, chunk: tuple[int, int, int, int]) -> bytes:
    start, end, scheme, size = chunk
    body = xorb[start + 8 : end]
    if scheme in (1, 2):
        body = lz4_frame(body)
    if scheme == 2:  # the bytes of every group of four were regrouped by their place in the group
        mixed, at = bytearray(len(body)), 0
        for place in range(4):
            count = len(range(place, len(body), 4))
            mixed[place::4] = body[at : at + count]
            at += count
        body = bytes(mixed)
    if len(body) != size:
        raise HubError(400, "xorb chunk has the wrong size")
    return body


def shard_files(shard: bytes) -> list[dict]:
    """The file section of a shard: [{hash, sha256, terms: [(xorb, first, last, bytes)]}]."""
    files, at = [], 48
    while True:
        head = shard[at : at + 48]
        if len(head) < 48:
            raise HubError(400, "malformed shard")
        at += 48
        if head[:32] == b"\xff" * 32:
            return files
        flags, count = struct.unpack_from("<II", head, 32)
        terms, sha256 = [], None
        for _ in range(count):
            entry = shard[at : at + 48]
            _, size, first, last = struct.unpack_from("<IIII", entry, 32)
            terms.append([merkle_hex(entry[:32]), first, last, size])
            at += 48
        if flags & 1 << 31:
            at += 48 * count
        if flags & 1 << 30:
            sha256 = merkle_hex(shard[at : at + 32])
            at += 48
        files.append({"hash": merkle_hex(head[:32]), "sha256": sha256, "terms": terms})


# --------------------------------------------------------------------------- the hub


class Hub:
    def __init__(
        self,
        root: Path,
        *,
        xet: bool = True,
        cdn_host: str = "localhost",
        multipart_over: int = 20 * 2**20,
    ):
        self.store = Store(root)
        self.lock = threading.RLock()
        self.tokens: dict[str, dict] = {}
        self.log: list[dict] = []
        self.faults: list[dict] = []
        self.port = 0
        self.use_xet, self.cdn_host, self.multipart_over = xet, cdn_host, multipart_over
        self.signatures: dict[str, str] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.app = self._build()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def cdn(self) -> str:
        """Another origin than the hub's, so that a client that leaks its token to the CDN is seen."""
        return f"http://{self.cdn_host}:{self.port}"

    # ----- who is asking, and what may they do

    def user(self, request: Request) -> dict | None:
        header = request.headers.get("authorization", "")
        if not header:
            return None
        token = header.removeprefix("Bearer ").strip()
        if token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def repo(self, request: Request, *, write: bool = False, content: bool = False) -> dict:
        user = self.user(request)
        kind = KINDS.get(request.path_params.get("kind", "models"), "model")
        repo_id = f"{request.path_params['ns']}/{request.path_params['name']}"
        repo = self.store.repos.get(self.store.key(kind, repo_id))
        mine = bool(user and repo and user["name"] == repo["author"])
        if repo is None or (repo["private"] and not mine):
            # The Hub does not tell a stranger that a private repository exists.
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if write:
            if user is None:
                raise HubError(401, "Authentication required")
            if not mine:
                raise HubError(403, "Forbidden: you don't have write access to this repository")
            if user["role"] != "write":
                raise HubError(
                    403, "Forbidden: you must use a write token to upload to a repository."
                )
        if (
            content
            and repo["gated"]
            and not mine
            and (user is None or user["name"] not in repo["granted"])
        ):
            raise HubError(
                403 if user else 401,
                f"Access to {repo['kind']} {repo['id']} is restricted and you are not in the authorized list.",
                "GatedRepo",
            )
        return repo

    @staticmethod
    def commit_of(repo: dict, revision: str) -> str:
        revision = unquote(revision)
        for table in (repo["branches"], repo["tags"]):
            if revision in table:
                return table[revision]
        revision = revision.removeprefix("refs/heads/")
        if revision in repo["branches"]:
            return repo["branches"][revision]
        found = [oid for oid in repo["commits"] if len(revision) >= 7 and oid.startswith(revision)]
        if len(found) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    # ----- accounts and repositories

    async def whoami(self, request: Request) -> Response:
        user = self.user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        return JSONResponse(
            {
                "type": "user", "id": f"id-{user['name']}", "name": user["name"], "fullname": user["name"], "orgs": [],
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": user["role"]}},
            }
        )  # fmt: skip

    def _target(self, request: Request, body: dict) -> tuple[dict, str, str]:
        user = self.user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        owner = body.get("organization") or user["name"]
        if owner != user["name"]:
            raise HubError(
                403,
                f'You don\'t have the rights to create a {body.get("type", "model")} under the namespace "{owner}"',
            )
        if user["role"] != "write":
            raise HubError(403, "Forbidden: you must use a write token.")
        return user, body.get("type") or "model", f"{owner}/{body.get('name', '')}"

    async def create_repo(self, request: Request) -> Response:
        body = await request.json()
        user, kind, repo_id = self._target(request, body)
        if kind not in KINDS.values() or not REPO_NAME.fullmatch(body.get("name", "")):
            raise HubError(400, f"Invalid repo name: {repo_id}")
        if kind == "space" and body.get("sdk") not in SDKS:
            raise HubError(400, "Invalid space SDK")
        prefix = "" if kind == "model" else f"{kind}s/"
        url = f"{self.url}/{prefix}{repo_id}"
        if self.store.key(kind, repo_id) in self.store.repos:
            return JSONResponse({"error": f"You already created this {kind} repo", "url": url}, 409)
        with self.lock:
            repo = {
                "id": repo_id, "kind": kind, "author": user["name"], "private": body.get("visibility") == "private" or bool(body.get("private")),
                "gated": False, "granted": [], "sdk": body.get("sdk"), "createdAt": now(), "branches": {}, "tags": {}, "commits": {},
                "secrets": {s["key"]: True for s in body.get("secrets", [])}, "hardware": body.get("hardware") or "cpu-basic",
                "sleep": body.get("sleepTimeSeconds"), "volumes": body.get("volumes"), "variables": {v["key"]: v["value"] for v in body.get("variables", [])},
            }  # fmt: skip
            attributes = "".join(
                f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n"
                for suffix in sorted(LFS_SUFFIXES)
            )
            self._commit(
                repo,
                "main",
                user["name"],
                "initial commit",
                "",
                {".gitattributes": self._regular(attributes.encode())},
            )
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    async def delete_repo(self, request: Request) -> Response:
        user, kind, repo_id = self._target(request, await request.json())
        repo = self.store.repos.get(self.store.key(kind, repo_id))
        if repo is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        self.store.drop(repo)
        return JSONResponse({})

    async def settings(self, request: Request) -> Response:
        repo, body = self.repo(request, write=True), await request.json()
        if "visibility" in body:
            repo["private"] = body["visibility"] == "private"
        repo.update({key: body[key] for key in ("private", "gated") if key in body})
        self.store.save(repo)
        return JSONResponse({})

    async def list_repos(self, request: Request) -> Response:
        user, kind = self.user(request), KINDS[request.path_params["kind"]]
        query = request.query_params
        rows = [
            self._info(repo, repo["branches"]["main"], brief=True)
            for repo in self.store.repos.values()
            if repo["kind"] == kind
            and (not repo["private"] or (user and user["name"] == repo["author"]))
            and query.get("author", repo["author"]) == repo["author"]
            and query.get("search", "").lower() in repo["id"].lower()
        ]
        return JSONResponse(rows[: int(query.get("limit", 1000))])

    def _card(self, repo: dict, files: dict) -> dict:
        readme = files.get("README.md")
        parts = (
            self.store.blob(readme["sha256"]).decode("utf-8", "replace").split("---\n")
            if readme
            else []
        )
        try:
            card = yaml.safe_load(parts[1]) if len(parts) > 2 else None
        except yaml.YAMLError:
            card = None
        return card if isinstance(card, dict) else {}

    def _info(self, repo: dict, oid: str, *, brief: bool = False, blobs: bool = False) -> dict:
        files = repo["commits"][oid]["files"]
        card = self._card(repo, files)
        info = {
            "_id": repo["id"], "id": repo["id"], "modelId": repo["id"], "author": repo["author"], "sha": oid, "private": repo["private"],
            "gated": repo["gated"], "disabled": False, "downloads": 0, "likes": 0, "createdAt": repo["createdAt"],
            "lastModified": repo["commits"][oid]["date"], "tags": list(card.get("tags") or []),
            **({"library_name": card["library_name"]} if "library_name" in card else {}),
            **({"pipeline_tag": card["pipeline_tag"]} if "pipeline_tag" in card else {}),
        }  # fmt: skip
        if repo["kind"] == "space":
            info |= {
                "sdk": repo["sdk"],
                "subdomain": repo["id"].replace("/", "-").lower(),
                "runtime": self._runtime(repo),
            }
        if not brief:
            info |= {
                "cardData": card,
                "siblings": [
                    self._sibling(path, entry, blobs) for path, entry in sorted(files.items())
                ],
            }
        return info

    @staticmethod
    def _sibling(path: str, entry: dict, blobs: bool) -> dict:
        row: dict = {"rfilename": path}
        if blobs:
            row |= {"size": entry["size"], "blobId": entry["oid"]}
            if entry["lfs"]:
                row["lfs"] = {
                    "sha256": entry["sha256"],
                    "size": entry["size"],
                    "pointerSize": len(lfs_pointer(entry["sha256"], entry["size"])),
                }
        return row

    async def info(self, request: Request) -> Response:
        repo = self.repo(request)
        oid = self.commit_of(repo, request.path_params.get("rev", "main"))
        return JSONResponse(self._info(repo, oid, blobs="blobs" in request.query_params))

    @staticmethod
    def _runtime(repo: dict) -> dict:
        return {"stage": "NO_APP_FILE" if "app.py" not in repo["commits"][repo["branches"]["main"]]["files"] else "RUNNING",
                "hardware": {"current": repo["hardware"], "requested": repo["hardware"]}, "storage": None, "gcTimeout": repo.get("sleep") or 172800,
                "volumes": repo.get("volumes"), **repo.get("trouble", {})}  # fmt: skip

    async def runtime(self, request: Request) -> Response:
        return JSONResponse(self._runtime(self.repo(request)))

    async def auth_check(self, request: Request) -> Response:
        self.repo(request, content=True)
        return JSONResponse({})

    async def space_hardware(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        body = await request.json()
        repo["hardware"], repo["sleep"] = body["flavor"], body.get("sleepTimeSeconds")
        self.store.save(repo)
        return JSONResponse(self._runtime(repo))

    async def space_sleep(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        repo["sleep"] = (await request.json())["seconds"]
        self.store.save(repo)
        return JSONResponse(self._runtime(repo))

    async def space_volumes(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        repo["volumes"] = (await request.json())["volumes"]
        self.store.save(repo)
        return JSONResponse(self._runtime(repo))

    async def space_variables(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        if request.method == "POST":
            body = await request.json()
            repo["variables"][body["key"]] = body["value"]
            self.store.save(repo)
        return JSONResponse({key: {"value": value} for key, value in repo["variables"].items()})

    async def space_secret(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        repo["secrets"][(await request.json())["key"]] = (
            True  # only the name: a value is never kept
        )
        self.store.save(repo)
        return JSONResponse({})

    # ----- reading

    @staticmethod
    def _tree_row(path: str, entry: dict) -> dict:
        row = {"type": "file", "oid": entry["oid"], "size": entry["size"], "path": path}
        if entry["lfs"]:
            row["lfs"] = {
                "oid": entry["sha256"],
                "size": entry["size"],
                "pointerSize": len(lfs_pointer(entry["sha256"], entry["size"])),
            }
        if entry.get("xet"):
            row["xetHash"] = entry["xet"]
        return row

    def _rows(self, files: dict, folder: str, recursive: bool) -> list[dict]:
        rows, seen = [], set()
        for path, entry in sorted(files.items()):
            if folder and not path.startswith(folder + "/"):
                continue
            inner = path[len(folder) + 1 :] if folder else path
            parents = inner.split("/")[:-1]
            for depth in (
                range(1, len(parents) + 1) if recursive else range(1, min(1, len(parents)) + 1)
            ):
                directory = "/".join(([folder] if folder else []) + parents[:depth])
                if directory not in seen:
                    seen.add(directory)
                    rows.append(
                        {
                            "type": "directory",
                            "oid": hashlib.sha1(directory.encode()).hexdigest(),
                            "size": 0,
                            "path": directory,
                        }
                    )
            if recursive or not parents:
                rows.append(self._tree_row(path, entry))
        return rows

    async def tree(self, request: Request) -> Response:
        repo = self.repo(request)
        files = repo["commits"][self.commit_of(repo, request.path_params["rev"])]["files"]
        folder = request.path_params.get("path", "").strip("/")
        rows = self._rows(
            files, folder, request.query_params.get("recursive", "").lower() in ("true", "1")
        )
        if folder and not rows:
            raise HubError(404, f"{folder} does not exist on this revision", "EntryNotFound")
        size, start = 1000, int(request.query_params.get("cursor") or 0)
        headers = {}
        if start + size < len(rows):
            following = request.url.include_query_params(cursor=start + size)
            headers["Link"] = f'<{self.url}{following.path}?{following.query}>; rel="next"'
        return JSONResponse(rows[start : start + size], headers=headers)

    async def paths_info(self, request: Request) -> Response:
        repo = self.repo(request)
        files = repo["commits"][self.commit_of(repo, request.path_params["rev"])]["files"]
        raw = await request.body()
        if request.headers.get("content-type", "").startswith("application/json"):
            paths = json.loads(raw)["paths"]
        else:
            paths = parse_qs(raw.decode()).get("paths", [])
        rows = [self._tree_row(path, files[path]) for path in paths if path in files]
        rows += [
            row
            for row in self._rows(files, "", True)
            if row["type"] == "directory" and row["path"] in paths
        ]
        return JSONResponse(rows)

    async def refs(self, request: Request) -> Response:
        repo = self.repo(request)
        pulls = {name: oid for name, oid in repo["branches"].items() if name.startswith("refs/pr/")}
        heads = {name: oid for name, oid in repo["branches"].items() if name not in pulls}
        body = {
            "branches": [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in heads.items()
            ],
            "tags": [
                {"name": n, "ref": f"refs/tags/{n}", "targetCommit": c}
                for n, c in repo["tags"].items()
            ],
            "converts": [],
            "pullRequests": [{"name": n, "ref": n, "targetCommit": c} for n, c in pulls.items()],
        }
        return JSONResponse(body)

    async def commits(self, request: Request) -> Response:
        repo = self.repo(request)
        rows, oid = [], self.commit_of(repo, request.path_params["rev"])
        while oid:
            commit = repo["commits"][oid]
            rows.append({"id": oid, "title": commit["title"], "message": commit["description"], "date": commit["date"],
                         "authors": [{"user": commit["author"]}]})  # fmt: skip
            oid = commit["parent"]
        return JSONResponse(rows)

    async def resolve(self, request: Request) -> Response:
        repo = self.repo(request, content=True)
        oid = self.commit_of(repo, request.path_params["rev"])
        entry = repo["commits"][oid]["files"].get(request.path_params["path"])
        if entry is None:
            raise HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": oid})
        headers = {
            "X-Repo-Commit": oid,
            "Accept-Ranges": "bytes",
            "Access-Control-Expose-Headers": "*",
        }
        if not entry["lfs"]:
            return ranged(
                request, self.store.blob(entry["sha256"]), headers | {"ETag": f'"{entry["oid"]}"'}
            )
        signature = secrets.token_urlsafe(16)
        self.signatures[signature] = entry["sha256"]
        headers |= {
            "X-Linked-Etag": f'"{entry["sha256"]}"', "X-Linked-Size": str(entry["size"]), "ETag": f'"{entry["sha256"]}"',
            "Location": f"{self.cdn}/cdn/{entry['sha256']}?Signature={signature}",
        }  # fmt: skip
        if entry.get("xet"):
            token = f"{self.url}/api/{repo['kind']}s/{repo['id']}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": entry["xet"], "Link": f'<{token}>; rel="xet-auth"'}
        return Response(status_code=302, headers=headers)

    async def cdn_get(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if request.headers.get("authorization"):
            raise HubError(400, "Only one auth mechanism allowed")  # as S3 and CloudFront answer
        if self.signatures.get(request.query_params.get("Signature", "")) != digest:
            raise HubError(403, "Access denied")
        if not self.store.has_blob(digest):
            xet = next(
                (name for name, entry in self.store.xet.items() if entry["sha256"] == digest), None
            )
            if xet is None:
                raise HubError(404, "No such blob")
            self.store.put_blob(self._xet_content(xet))
        return ranged(request, self.store.blob(digest), {"ETag": f'"{digest}"'})

    # ----- writing

    def _regular(self, content: bytes) -> dict:
        return {
            "sha256": self.store.put_blob(content),
            "size": len(content),
            "oid": git_blob_id(content),
            "lfs": False,
        }

    def _commit(
        self, repo: dict, branch: str, author: str, title: str, description: str, files: dict
    ) -> str:
        parent = repo["branches"].get(branch)
        commit = {
            "parent": parent,
            "title": title,
            "description": description,
            "author": author,
            "date": now(),
            "files": files,
        }
        oid = hashlib.sha1(
            json.dumps([commit, secrets.token_hex(4)], sort_keys=True).encode()
        ).hexdigest()
        repo["commits"][oid] = commit
        repo["branches"][branch] = oid
        self.store.save(repo)
        return oid

    async def validate_yaml(self, request: Request) -> Response:
        content = (await request.json()).get("content", "")
        found = re.match(r"---\r?\n(.*?)\r?\n---", content, re.S)
        if not found:
            return JSONResponse(
                {
                    "errors": [],
                    "warnings": [{"message": "empty or missing yaml metadata in repo card"}],
                }
            )
        try:
            parsed = yaml.safe_load(found[1])
        except yaml.YAMLError as error:
            return JSONResponse(
                {"errors": [{"message": f"YAML Metadata Error: {error}"}], "warnings": []}, 400
            )
        if parsed is not None and not isinstance(parsed, dict):
            return JSONResponse(
                {"errors": [{"message": "YAML Metadata must be an object"}], "warnings": []}, 400
            )
        return JSONResponse({"errors": [], "warnings": []})

    async def preupload(self, request: Request) -> Response:
        repo = self.repo(request, write="create_pr" not in request.query_params)
        files = repo["commits"][self.commit_of(repo, request.path_params["rev"])]["files"]
        body = await request.json()
        ignored = [
            line.strip()
            for line in body.get("gitIgnore", "").splitlines()
            if line.strip() and not line.startswith("#")
        ]
        rows = []
        for item in body["files"]:
            path, sample = item["path"], base64.b64decode(item.get("sample", ""))
            lfs = (
                Path(path).suffix in LFS_SUFFIXES or item["size"] > REGULAR_LIMIT or b"\0" in sample
            )
            known = files.get(path)
            rows.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": any(
                        fnmatch.fnmatch(path, p) or fnmatch.fnmatch(path, p.rstrip("/") + "/*")
                        for p in ignored
                    ),
                    "oid": (known["sha256"] if known["lfs"] else known["oid"]) if known else None,
                }
            )
        return JSONResponse({"files": rows})

    async def lfs_batch(self, request: Request) -> Response:
        repo, body = self.repo(request, write=True), await request.json()
        objects = []
        for item in body["objects"]:
            row = {"oid": item["oid"], "size": item["size"]}
            if not self.store.has_blob(item["oid"]):
                grant = secrets.token_urlsafe(16)
                self.signatures[grant] = item["oid"]
                upload = {
                    "href": f"{self.cdn}/upload/{item['oid']}?Signature={grant}",
                    "header": {},
                }
                if item["size"] > self.multipart_over and "multipart" in body.get("transfers", []):
                    chunk = 8 * 2**20
                    upload["href"] = f"{self.cdn}/complete/{item['oid']}?Signature={grant}"
                    upload["header"] = {"chunk_size": str(chunk)} | {
                        str(n + 1): f"{self.cdn}/part/{item['oid']}/{n + 1}?Signature={grant}"
                        for n in range(math.ceil(item["size"] / chunk))
                    }
                verify = f"{self.url}/{'' if repo['kind'] == 'model' else repo['kind'] + 's/'}{repo['id']}.git/info/lfs/verify"
                row["actions"] = {"upload": upload, "verify": {"href": verify, "header": {}}}
            objects.append(row)
        return JSONResponse({"transfer": "multipart" if any("chunk_size" in o.get("actions", {}).get("upload", {}).get("header", {}) for o in objects) else "basic",
                             "objects": objects}, media_type="application/vnd.git-lfs+json")  # fmt: skip

    def _granted(self, request: Request) -> str:
        digest = request.path_params["digest"]
        if self.signatures.get(request.query_params.get("Signature", "")) != digest:
            raise HubError(403, "Access denied")
        return digest

    def _accept(self, digest: str, content: bytes) -> Response:
        if hashlib.sha256(content).hexdigest() != digest:
            raise HubError(400, "Uploaded content does not have the announced sha256")
        self.store.put_blob(content)
        return Response(status_code=200)

    async def upload(self, request: Request) -> Response:
        return self._accept(self._granted(request), await request.body())

    async def upload_part(self, request: Request) -> Response:
        digest, content = self._granted(request), await request.body()
        self.parts.setdefault(digest, {})[int(request.path_params["number"])] = content
        return Response(headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})

    async def complete(self, request: Request) -> Response:
        digest, parts = self._granted(request), (await request.json())["parts"]
        held = self.parts.pop(digest, {})
        return self._accept(digest, b"".join(held[part["partNumber"]] for part in parts))

    async def lfs_verify(self, request: Request) -> Response:
        self.repo(request, write=True)
        body = await request.json()
        if (
            not self.store.has_blob(body["oid"])
            or len(self.store.blob(body["oid"])) != body["size"]
        ):
            raise HubError(404, "LFS object not found")
        return Response(status_code=200)

    async def commit(self, request: Request) -> Response:
        pull = "create_pr" in request.query_params
        repo = self.repo(request, write=not pull)
        user = self.user(request)
        if user is None:
            raise HubError(401, "Authentication required")
        branch = unquote(request.path_params["rev"])
        if branch not in repo["branches"]:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        items = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        if not items or items[0].get("key") != "header":
            raise HubError(400, "The first line of a commit must be its header")
        header = items[0]["value"]
        with self.lock:
            head = repo["branches"][branch]
            if header.get("parentCommit") and header["parentCommit"] != head:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repo["commits"][head]["files"])
            for item in items[1:]:
                self._apply(files, item["key"], item["value"])
            if pull:
                branch = (
                    f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in repo['branches'])}"
                )
                repo["branches"][branch] = head
            oid = self._commit(
                repo,
                branch,
                user["name"],
                header.get("summary", ""),
                header.get("description", ""),
                files,
            )
        base = f"{self.url}/{'' if repo['kind'] == 'model' else repo['kind'] + 's/'}{repo['id']}"
        body = {
            "success": True,
            "commitOid": oid,
            "commitUrl": f"{base}/commit/{oid}",
            "hookOutput": "",
        }
        if pull:
            body["pullRequestUrl"] = f"{base}/discussions/{branch.rsplit('/', 1)[1]}"
        return JSONResponse(body)

    def _apply(self, files: dict, key: str, value: dict) -> None:
        path = value["path"].rstrip("/")
        if path.startswith("/") or any(part in ("", ".", "..", ".git") for part in path.split("/")):
            raise HubError(400, f"Invalid path: {value['path']}")
        if key == "file":
            try:
                content = base64.b64decode(value["content"], validate=True)
            except binascii.Error as error:
                raise HubError(400, "Invalid base64") from error
            files[path] = self._regular(content)
        elif key == "lfsFile":
            digest = value["oid"]
            xet = next(
                (name for name, entry in self.store.xet.items() if entry["sha256"] == digest), None
            )
            if xet is not None:
                size = sum(term[3] for term in self.store.xet[xet]["terms"])
            elif self.store.has_blob(digest):
                size = (self.store.root / "blobs" / digest).stat().st_size
            else:
                raise HubError(
                    400,
                    f'Your push was rejected because an LFS pointer pointed to a file that does not exist: "{path}"',
                )
            files[path] = {
                "sha256": digest,
                "size": size,
                "oid": git_blob_id(lfs_pointer(digest, size)),
                "lfs": True,
                "xet": xet,
            }
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(path + "/")]
            for name in inside:
                del files[name]
            if not inside:
                raise HubError(
                    404, f"A folder with this name doesn't exist: {path}", "EntryNotFound"
                )
        else:
            raise HubError(400, f"Unknown operation {key!r}")

    async def branch(self, request: Request) -> Response:
        repo, name = self.repo(request, write=True), unquote(request.path_params["ref"])
        if request.method == "DELETE":
            if name == "main" or repo["branches"].pop(name, None) is None:
                raise HubError(
                    403 if name == "main" else 404,
                    "Cannot delete this branch",
                    None if name == "main" else "RevisionNotFound",
                )
        else:
            if name in repo["branches"]:
                raise HubError(409, f"Reference already exists: refs/heads/{name}")
            raw = await request.body()
            repo["branches"][name] = self.commit_of(
                repo, (json.loads(raw) if raw else {}).get("startingPoint") or "main"
            )
        self.store.save(repo)
        return JSONResponse({})

    async def tag(self, request: Request) -> Response:
        repo, ref = self.repo(request, write=True), unquote(request.path_params["ref"])
        if request.method == "DELETE":
            if repo["tags"].pop(ref, None) is None:
                raise HubError(404, "Tag not found", "RevisionNotFound")
        else:
            name = (await request.json())["tag"]
            if name in repo["tags"]:
                raise HubError(409, f"Reference already exists: refs/tags/{name}")
            repo["tags"][name] = self.commit_of(repo, ref)
        self.store.save(repo)
        return JSONResponse({})

    # ----- xet: token hand-out, and the content-addressed store behind it

    async def xet_token(self, request: Request) -> Response:
        scope = request.path_params["scope"]
        if not self.use_xet:
            raise HubError(404, "Xet is not enabled on this hub")
        if scope == "write":
            self.repo(request, write="create_pr" not in request.query_params)
        else:
            self.repo(request, content=True)
        token, expiry = f"xet_{scope}_{secrets.token_urlsafe(12)}", int(time.time()) + 3600
        self.signatures[token] = scope
        headers = {
            "X-Xet-Cas-Url": f"{self.cdn}/cas",
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expiry),
        }
        return JSONResponse(
            {"casUrl": headers["X-Xet-Cas-Url"], "accessToken": token, "exp": expiry},
            headers=headers,
        )

    def _xet_scope(self, request: Request, need: str) -> None:
        scope = self.signatures.get(
            request.headers.get("authorization", "").removeprefix("Bearer ")
        )
        if scope is None:
            raise HubError(401, "Missing or expired xet token")
        if need == "write" and scope != "write":
            raise HubError(403, "This xet token may not write")

    async def xorb_put(self, request: Request) -> Response:
        self._xet_scope(request, "write")
        content = await request.body()
        xorb_chunks(content)
        self.store.put_xorb(request.path_params["digest"], content)
        return JSONResponse({"was_inserted": True})

    async def xorb_get(self, request: Request) -> Response:
        content = self.store.xorb(request.path_params["digest"])
        if (
            content is None
            or self.signatures.get(request.query_params.get("Signature", ""))
            != request.path_params["digest"]
        ):
            raise HubError(403, "Access denied")
        return ranged(request, content, {})

    async def shard_put(self, request: Request) -> Response:
        self._xet_scope(request, "write")
        for entry in shard_files(await request.body()):
            for name, first, last, size in entry["terms"]:
                xorb = self.store.xorb(name)
                if xorb is None:
                    raise HubError(400, f"shard names an unknown xorb {name}")
                if sum(chunk[3] for chunk in xorb_chunks(xorb)[first:last]) != size:
                    raise HubError(400, "shard and xorb disagree about a size")
            content = self._xet_terms(entry["terms"])
            digest = hashlib.sha256(content).hexdigest()
            if entry["sha256"] not in (None, digest):
                raise HubError(400, "shard announces another sha256 than its content has")
            self.store.put_xet_file(entry["hash"], {"sha256": digest, "terms": entry["terms"]})
        return JSONResponse({"result": 1})

    def _xet_terms(self, terms: list) -> bytes:
        out = bytearray()
        for name, first, last, _ in terms:
            xorb = self.store.xorb(name)
            assert xorb is not None
            for chunk in xorb_chunks(xorb)[first:last]:
                out += unpack_chunk(xorb, chunk)
        return bytes(out)

    def _xet_content(self, file_hash: str) -> bytes:
        return self._xet_terms(self.store.xet[file_hash]["terms"])

    async def reconstruction(self, request: Request) -> Response:
        self._xet_scope(request, "read")
        entry = self.store.xet.get(request.path_params["digest"])
        if entry is None:
            raise HubError(404, "Unknown file")
        total = sum(term[3] for term in entry["terms"])
        first, last = 0, total
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked:
            first, last = int(asked[1]), min(total, int(asked[2]) + 1 if asked[2] else total)
            if first >= total:
                raise HubError(416, "Range not satisfiable")
        terms, wanted, skip, at = [], {}, None, 0
        for name, start, end, size in entry["terms"]:
            if at < last and at + size > first:
                skip = first - at if skip is None else skip
                terms.append(
                    {"hash": name, "unpacked_length": size, "range": {"start": start, "end": end}}
                )
                wanted.setdefault(name, []).append((start, end))
            at += size
        fetch = {name: self._xet_fetch(name, ranges) for name, ranges in wanted.items()}
        return JSONResponse(
            {"offset_into_first_range": skip or 0, "terms": terms, "fetch_info": fetch}
        )

    def _xet_fetch(self, name: str, ranges: list[tuple[int, int]]) -> list[dict]:
        """Where to get these chunks of one xorb. Ranges that overlap or touch become one, as the client expects:
        it tells the blocks it fetched apart by their first chunk alone."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if merged and start <= merged[-1][1]:
                start, before = merged.pop()
                end = max(before, end)
            merged.append((start, end))
        chunks = xorb_chunks(self.store.xorb(name) or b"")
        signature = secrets.token_urlsafe(12)
        self.signatures[signature] = name
        return [
            {
                "range": {"start": start, "end": end},
                "url": f"{self.cdn}/cas/xorb/{name}?Signature={signature}",
                "url_range": {"start": chunks[start][0], "end": chunks[end - 1][1] - 1},
            }
            for start, end in merged
        ]

    # ----- control and wiring

    async def control(self, request: Request) -> Response:
        if request.method == "POST":
            self.faults = await request.json()
        elif request.method == "DELETE":
            self.faults, self.log = [], []
        return JSONResponse({"faults": self.faults, "log": self.log})

    def _build(self):
        repo, kinds = "{ns}/{name}", "{kind:kind}"
        api = f"/api/{kinds}/{repo}"
        routes = [
            Route("/__hub__", self.control, methods=["GET", "POST", "DELETE"]),
            Route("/api/whoami-v2", self.whoami),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route("/api/repos/create", self.create_repo, methods=["POST"]),
            Route("/api/repos/delete", self.delete_repo, methods=["DELETE"]),
            Route(f"/api/{kinds}", self.list_repos),
            Route(f"{api}/settings", self.settings, methods=["PUT"]),
            Route(f"{api}/revision/{{rev}}", self.info),
            Route(f"{api}/tree/{{rev}}", self.tree),
            Route(f"{api}/tree/{{rev}}/{{path:path}}", self.tree),
            Route(f"{api}/paths-info/{{rev}}", self.paths_info, methods=["POST"]),
            Route(f"{api}/refs", self.refs),
            Route(f"{api}/commits/{{rev}}", self.commits),
            Route(f"{api}/preupload/{{rev}}", self.preupload, methods=["POST"]),
            Route(f"{api}/commit/{{rev}}", self.commit, methods=["POST"]),
            Route(f"{api}/branch/{{ref}}", self.branch, methods=["POST", "DELETE"]),
            Route(f"{api}/tag/{{ref}}", self.tag, methods=["POST", "DELETE"]),
            Route(f"{api}/xet-{{scope}}-token/{{rev}}", self.xet_token),
            Route(f"{api}/auth-check", self.auth_check),
            Route(f"{api}/runtime", self.runtime),
            Route(f"{api}/hardware", self.space_hardware, methods=["POST"]),
            Route(f"{api}/sleeptime", self.space_sleep, methods=["POST"]),
            Route(f"{api}/volumes", self.space_volumes, methods=["PUT"]),
            Route(f"{api}/variables", self.space_variables, methods=["GET", "POST"]),
            Route(f"{api}/secrets", self.space_secret, methods=["POST"]),
            Route(api, self.info),
            Route("/cdn/{digest}", self.cdn_get),
            Route("/upload/{digest}", self.upload, methods=["PUT"]),
            Route("/part/{digest}/{number:int}", self.upload_part, methods=["PUT"]),
            Route("/complete/{digest}", self.complete, methods=["POST"]),
            Route("/cas/v1/xorbs/default/{digest}", self.xorb_put, methods=["POST"]),
            Route("/cas/v1/shards", self.shard_put, methods=["POST"]),
            Route("/cas/v1/reconstructions/{digest}", self.reconstruction),
            Route("/cas/xorb/{digest}", self.xorb_get),
        ]
        for prefix in ("", f"/{kinds}"):
            routes += [
                Route(f"{prefix}/{repo}/resolve/{{rev}}/{{path:path}}", self.resolve),
                Route(
                    f"{prefix}/{{ns}}/{{name}}.git/info/lfs/objects/batch",
                    self.lfs_batch,
                    methods=["POST"],
                ),
                Route(
                    f"{prefix}/{{ns}}/{{name}}.git/info/lfs/verify",
                    self.lfs_verify,
                    methods=["POST"],
                ),
            ]

        async def on_error(request: Request, error: Exception) -> Response:
            assert isinstance(error, HubError)
            if request.method == "HEAD":
                return Response(status_code=error.status, headers=error.headers)
            return JSONResponse({"error": error.message}, error.status, headers=error.headers)

        app = Starlette(routes=routes, exception_handlers={HubError: on_error})

        async def outer(scope, receive, send):
            if scope["type"] == "http":
                await self._serve(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return outer

    async def _serve(self, app, scope, receive, send) -> None:
        """Log the request, apply a matching fault, pass the rest on."""
        headers = {key.decode().lower(): value.decode("latin1") for key, value in scope["headers"]}
        # A revision such as refs%2Fpr%2F1 is one path segment: route on the undecoded path.
        scope["path"] = (
            scope["raw_path"].decode() if b"%2F" in scope["raw_path"].upper() else scope["path"]
        )
        line = f"{scope['method']} {scope['path']}"
        token = headers.get("authorization", "").removeprefix("Bearer ").strip()
        record = {"line": line, "host": headers.get("host"), "auth": self.tokens.get(token, {}).get("name") or (bool(token) and "other"),
                  "range": headers.get("range"), "status": None, "fault": None}  # fmt: skip
        control = scope["path"] == "/__hub__"
        fault = None if control else self._fault(line)
        if not control:
            self.log.append(record)
        action, _, argument = (fault or "").partition(":")
        record["fault"] = fault
        if action == "status":
            response = JSONResponse(
                {"error": "injected"},
                int(argument),
                headers={"Retry-After": "0"} if argument == "429" else {},
            )
            record["status"] = int(argument)
            await response(scope, receive, send)
            return
        if action == "slow":
            await asyncio.sleep(float(argument))
        sent = 0

        async def faulty(message):
            nonlocal sent
            if message["type"] == "http.response.start":
                record["status"] = message["status"]
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                if action == "corrupt" and body:
                    middle = len(body) // 2  # one wrong bit, the right length
                    body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
                elif action == "truncate":
                    keep = max(0, int(argument) - sent)
                    sent += len(body)
                    await send({**message, "body": body[:keep], "more_body": True})
                    raise ConnectionAbortedError("injected: answer cut short")
                elif action == "drip":
                    step = max(1, len(body) // 20)
                    for at in range(0, len(body), step):
                        await send({**message, "body": body[at : at + step], "more_body": True})
                        await asyncio.sleep(float(argument) / 20)
                    body = b""
                message = {**message, "body": body}
            await send(message)

        await app(scope, receive, faulty)

    def _fault(self, line: str) -> str | None:
        with self.lock:
            for rule in self.faults:
                if re.search(rule["match"], line):
                    rule["seen"] = rule.get("seen", 0) + 1
                    first = rule.get("nth", 1)
                    if first <= rule["seen"] < first + rule.get("times", 1):
                        return rule["action"]
        return None


def ranged(request: Request, content: bytes, headers: dict) -> Response:
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"} | headers
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(len(content))})
    if asked and (asked[1] or asked[2]):
        start = int(asked[1]) if asked[1] else max(0, len(content) - int(asked[2]))
        end = min(len(content) - 1, int(asked[2])) if asked[1] and asked[2] else len(content) - 1
        if start >= len(content):
            return Response(
                status_code=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"}
            )
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return Response(content[start : end + 1], 206, headers)
    return Response(content, headers=headers)


def _register_kind_convertor() -> None:
    from starlette.convertors import Convertor, register_url_convertor

    class Kind(Convertor):
        regex = "models|datasets|spaces"

        def convert(self, value: str) -> str:
            return value

        def to_string(self, value: str) -> str:
            return quote(value)

    register_url_convertor("kind", Kind())


_register_kind_convertor()


class LocalHub:
    """The hub in a background thread, on a free loopback port."""

    def __init__(self, root: str | Path | None = None, *, port: int = 0, **options):
        self._own = root is None
        self.root = Path(root or tempfile.mkdtemp(prefix="local-hub-"))
        self.hub = Hub(self.root, **options)
        self._port = port

    def __enter__(self) -> LocalHub:
        self._socket = socket.create_server((HOST, self._port))
        self.hub.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.hub.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        if self._own:
            shutil.rmtree(self.root, ignore_errors=True)

    @property
    def url(self) -> str:
        return self.hub.url

    @property
    def log(self) -> list[dict]:
        return self.hub.log

    def add_token(self, user: str, role: str = "write") -> str:
        token = f"hf_{role}_{user}_{secrets.token_hex(8)}"
        self.hub.tokens[token] = {"name": user, "role": role}
        return token

    def fault(self, match: str, action: str, *, nth: int = 1, times: int = 1) -> None:
        """`action`: status:CODE, truncate:BYTES, corrupt (one bit), slow:SECONDS (before the answer) or
        drip:SECONDS (over the body); from the nth matching request on."""
        self.hub.faults.append({"match": match, "action": action, "nth": nth, "times": times})

    def clear(self) -> None:
        self.hub.faults, self.hub.log = [], []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--root", help="folder to keep everything in (default: a temporary one, removed at the end)"
    )
    parser.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="NAME[:read]",
        help="make a token (repeatable)",
    )
    parser.add_argument("--no-xet", action="store_true")
    arguments = parser.parse_args()
    with LocalHub(arguments.root, port=arguments.port, xet=not arguments.no_xet) as hub:
        tokens = {}
        for entry in arguments.user or ["alice"]:
            name, _, role = entry.partition(":")
            tokens[entry] = hub.add_token(name, role or "write")
        print(json.dumps({"url": hub.url, "tokens": tokens, "root": str(hub.root)}), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
