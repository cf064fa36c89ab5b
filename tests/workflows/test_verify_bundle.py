"""Bundles verified on the host: by the agent, and then along the digests of the documents in them."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import board_bundle, keys
from json_edits import edit

from deploycc.agent import bundle, ed25519
from deploycc.agent_host import bundles
from deploycc.agent_host.bundles import VerifiedBundle
from deploycc.bundle.keys import read_private_key
from deploycc.bundle.tar import Entry, write_tar
from deploycc.documents.bundle import BundleManifest
from deploycc.documents.document import read_document
from deploycc.errors import ArtefactError
from deploycc.files import sha256_of
from deploycc.workflows.package import Packaged
from deploycc.workflows.verify_bundle import is_output_folder, verify_bundle, verify_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Packaged, Path, Path]:
    """A bundle, the public key, and the folder that it was unpacked into."""
    place = tmp_path_factory.mktemp("made")
    packaged, public = board_bundle(place)
    with tarfile.open(packaged.files[0]) as archive:
        archive.extractall(place / "unpacked", filter="data")
    return packaged, public, place / "unpacked"


def test_a_bundle_and_its_folder(made: tuple[Packaged, Path, Path]) -> None:
    packaged, public, unpacked = made
    for path in (packaged.files[0], unpacked):
        verified = verify_bundle(path, public)
        assert (verified.digest, verified.manifest) == (packaged.digest, packaged.manifest)
    assert not is_output_folder(unpacked)


def test_a_refusal_is_the_agents(made: tuple[Packaged, Path, Path], tmp_path: Path) -> None:
    _, stranger = keys(tmp_path, "stranger")
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(made[0].files[0], stranger)
    assert caught.value.code == "bundle-refused"
    assert "is not signed with this key" in str(caught.value)
    assert "take the public key of whoever made the bundle" in str(caught.value)


def test_a_root_file_system_of_another_release(made: tuple[Packaged, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R32 (release), REVISION: 7.3, GCID: 1\n")
    with pytest.raises(ArtefactError, match=r"built under L4T 32\.7\.1, and this board has 32\.7\.3"):
        verify_bundle(made[0].files[0], made[1], tmp_path)


def signed_again(made: tuple[Packaged, Path, Path], place: Path, change: Callable[[Path], object]) -> Path:
    """Change files of a bundle and sign them again, as somebody with the key might who has no regard for the chain."""
    folder = Path(shutil.copytree(made[2], place / "changed"))
    change(folder / "model")
    manifest = read_document(folder, BundleManifest)
    files = tuple(
        file.model_copy(
            update={"sha256": sha256_of(folder / file.name), "size_bytes": (folder / file.name).stat().st_size}
        )
        for file in manifest.files
    )
    text = manifest.model_copy(update={"files": files}).to_json().encode()
    signature = read_private_key(made[1].with_suffix(".key")).sign(text)
    entries = [Entry("manifest.json", text), Entry("manifest.sig", signature)]
    entries += [Entry(file.name, folder / file.name, file.executable) for file in files]
    with (place / "changed.tar").open("wb") as out:
        write_tar(out, entries)
    return place / "changed.tar"


def faster(folder: Path) -> None:
    text = (folder / "latency.json").read_text()
    sample = text.split('"samples_ms": [')[1].split(",")[0].strip()
    (folder / "latency.json").write_text(text.replace(sample, "1.0", 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "latency.json was changed after it was written": faster,
    "is not the fp32 engine that build.json names": lambda folder: (folder / "engine-fp32.engine").write_bytes(b"x"),
    "is not the fp32 network that plan.json names": lambda folder: (folder / "network-fp32.onnx").write_bytes(b"x"),
    "is not the plan that compile.json names": lambda folder: edit(
        folder, "plan.json", lambda plan: plan["measurement"].update(seed=7)
    ),
    "was measured on another network": lambda folder: edit(
        folder, "latency.json", lambda latency: latency["runs"][0].update(network_sha256="0" * 64)
    ),
}


def verified_here(path: Path, key: Path, *, root: Path | None = None) -> VerifiedBundle:
    """The agent's verification without a process of its own."""
    read = bundle.read(str(path), ed25519.read_public_key(str(key)))
    return VerifiedBundle(path, read.digest, BundleManifest.model_validate_json(json.dumps(read.manifest)))


@pytest.mark.parametrize("reason", CHANGES)
def test_an_edited_figure_is_found_although_it_was_signed(
    made: tuple[Packaged, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(bundles, "verify_signed", verified_here)
    changed = signed_again(made, tmp_path, CHANGES[reason])
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(changed, made[1])
    assert caught.value.code in ("chain-broken", "artefact-changed")
    assert reason in str(caught.value)


def test_the_agent_may_be_of_a_later_version_than_the_folder(
    made: tuple[Packaged, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "verify_signed", verified_here)

    def lists_another(folder: Path) -> None:
        older = {"name": "agent.pyz", "sha256": "0" * 64, "size_bytes": 1}
        edit(folder, "deploycc-manifest.json", lambda manifest: manifest["files"].append(older))

    verify_bundle(signed_again(made, tmp_path, lists_another), made[1])


def test_an_output_folder_is_followed_without_a_key(made: tuple[Packaged, Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[0].files[0].parent / "out", tmp_path / "out"))
    assert is_output_folder(folder)
    verify_folder(folder)
    faster(folder)
    with pytest.raises(ArtefactError, match=r"latency\.json was changed"):
        verify_folder(folder)
