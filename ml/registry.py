"""Trained models on disk: artefact, manifest, champion pointer.

Belongs here: keeping, verifying, promoting, rolling back. Does not belong here: training, what a state means.

`artifacts/models/<model>/<model_id>/` holds `state.skops` (plain values and arrays, no code: nothing is unpickled) and
`manifest.json` with its SHA-256, verified before loading. `champion.json` in the model's folder names the current model and
the ones before it, so that going back is one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from datetime import date
from pathlib import Path
from typing import Any

from data_contracts.environment import Home
from data_contracts.errors import RapportError, UsageError

# One room a question; adding a question adds a folder with a `question.py`.
MODELS = tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("*/question.py")))
# What is learned without answering a question about a customer's future.
OTHERS = ("clusters",)
_ID = re.compile(r"^[a-z0-9_-]{1,80}$")


def folder(home: Home, model: str) -> Path:
    """Where a model's artefacts lie. Raises UsageError for a model that does not exist."""
    if model not in (*MODELS, *OTHERS):
        raise UsageError(f"there is no model {model!r}", remedy=f"Models: {', '.join(MODELS)}.")
    return home.artifacts / "models" / model


def save(home: Home, model: str, state: dict[str, Any], manifest: dict[str, Any], trained_on: date, is_promoted: bool = True) -> str:
    """Keep a trained state, as champion unless told otherwise; returns its id, which follows from content and date."""
    from skops.io import dumps
    content = dumps(state)
    # the archive holds time stamps of its own, so the id is taken from what was learned
    digest = hashlib.sha256(_canonical(state).encode()).hexdigest()
    model_id = f"{model}-{trained_on:%Y%m%d}-{digest[:8]}"
    place = folder(home, model) / model_id
    place.mkdir(parents=True, exist_ok=True)
    _replace(place / "state.skops", content)
    filled = {"model": model, "model_id": model_id, "trained_on": trained_on.isoformat(), "sha256": hashlib.sha256(content).hexdigest(), **manifest}
    _replace(place / "manifest.json", json.dumps(filled, indent=1, default=str).encode())
    if is_promoted:
        promote(home, model, model_id)
    return model_id


def load(home: Home, model: str, model_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and manifest of a kept model. Raises RapportError when the artefact is not byte for byte what was kept."""
    from skops.io import loads
    manifest = read_manifest(home, model, model_id)
    file = folder(home, model) / model_id / "state.skops"
    content = file.read_bytes() if file.exists() else b""
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise RapportError(f"the artefact of {model_id} is not what was kept: its checksum differs", file=str(file),
                           remedy=f"Train again (`rapport train {model}`) or go back (`rapport model rollback {model}`).")
    return loads(content, trusted=[]), manifest


def read_manifest(home: Home, model: str, model_id: str) -> dict[str, Any]:
    """What is written about a kept model. Raises UsageError when there is none of that id."""
    file = folder(home, model) / model_id / "manifest.json"
    if not _ID.match(model_id) or not file.exists():
        raise UsageError(f"there is no {model} model {model_id!r}", remedy="See `rapport model list`.")
    return json.loads(file.read_text(encoding="utf-8"))


def champion(home: Home, model: str) -> str | None:
    """Id of the model that scores now; None when none was trained."""
    past = _pointer(home, model)
    return past[-1] if past else None


def promote(home: Home, model: str, model_id: str) -> None:
    """Make a kept model the champion."""
    read_manifest_exists = (folder(home, model) / model_id / "manifest.json").exists()
    if not read_manifest_exists:
        raise UsageError(f"there is no {model} model {model_id!r}", remedy="See `rapport model list`.")
    past = [kept for kept in _pointer(home, model) if kept != model_id]
    _replace(folder(home, model) / "champion.json", json.dumps([*past, model_id]).encode())


def former(home: Home, model: str) -> str:
    """Id of the champion before the current one. Raises UsageError when there was none."""
    past = _pointer(home, model)
    if len(past) < 2:
        raise UsageError(f"{model} has no earlier champion", remedy="See `rapport model list`; promote another with `rapport model promote`.")
    return past[-2]


def rollback(home: Home, model: str) -> str:
    """Make the champion before the current one champion again; returns its id."""
    former(home, model)
    past = _pointer(home, model)
    _replace(folder(home, model) / "champion.json", json.dumps([past[-1], *past[:-1]]).encode())
    return past[-2]


def kept(home: Home) -> list[dict[str, Any]]:
    """Manifests of every kept model with `is_champion`, newest first."""
    found = []
    for model in MODELS:
        current = champion(home, model)
        for file in sorted(folder(home, model).glob("*/manifest.json")):
            manifest = json.loads(file.read_text(encoding="utf-8"))
            found.append({**manifest, "is_champion": manifest["model_id"] == current})
    return sorted(found, key=lambda m: (m["model"], m["trained_on"], m["is_champion"]), reverse=True)


def spoken(verdicts: dict[str, str]) -> str:
    """Verdicts by part as one text. Each is a sentence; a part without a name is the only one."""
    return " ".join(f"{part[:1].upper()}{part[1:].replace('_', ' ')}: {text}" if part else text for part, text in verdicts.items())


def readable(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """A manifest as fields and values in plain words: what scores, why, on what it rests; fingerprints last."""
    told = {"model": manifest["model_id"], "question": manifest["question"], "trained on data up to": manifest["trained_on"], "window asked about": manifest.get("window") or "not kept"}
    for name, part in manifest["parts"].items():
        strength = sum(part["importance"].values())
        counts = [f"{feature.replace('_', ' ')} {100 * value / strength:.0f} %" for feature, value in sorted(part["importance"].items(), key=lambda item: -item[1])[:8]] if strength > 0 else []
        label = name.replace("_", " ")
        told |= {
            f"{label}: shown": "a simple rule or the average, labelled" if part["is_fallback"] else f"the model ({part['candidate'].replace('_', ' ')})", f"{label}: verdict": part["verdict"],
            f"{label}: rows learned from": f"{part['training_rows']:,}", f"{label}: what moves the score most": ", ".join(counts) or "nothing: nothing was learned, or everybody has the same score",
            f"{label}: warnings": "; ".join(part["warnings"]) or "none",
        }  # fmt: skip
    cut_offs = manifest["cut_offs"]
    told |= {"cut-offs learned from": f"{len(cut_offs)}, {cut_offs[0]} to {cut_offs[-1]}" if cut_offs else "none", "fields used": ", ".join(manifest["inputs"]),
             "fingerprint of the data": manifest["data_fingerprint"] or "not kept", "fingerprint of the artefact": manifest["sha256"], "scikit-learn": manifest["scikit_learn"]}
    return [{"field": name, "value": value} for name, value in told.items()]


def _pointer(home: Home, model: str) -> list[str]:
    file = folder(home, model) / "champion.json"
    if not file.exists():
        return []
    return [kept for kept in json.loads(file.read_text(encoding="utf-8")) if (folder(home, model) / kept / "manifest.json").exists()]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
