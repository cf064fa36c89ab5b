"""Bundles: the same bytes every time, everything in them, and refusals before anything is written."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import onnx
import pytest
from bundles import ENGINE, L4T, board_bundle, board_folder, keys
from json_edits import edit
from small_networks import SOURCE

import deploycc
from deploycc.bundle.keys import read_private_key
from deploycc.bundle.provenance import signed_bytes
from deploycc.errors import ArtefactError, DeployError, InputError
from deploycc.workflows.package import Packaged, package
from deploycc.workflows.package_contents import PackageSettings

MODELS = Path(deploycc.__file__).parent / "models"
DEB = {"maintainer": "Jane Doe <jane@example.org>"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Packaged, Path]:
    place = tmp_path_factory.mktemp("made")
    notice = place / "OUR-LICENCE.txt"
    notice.write_text("ours")
    forms = {"deb": place / "bundle.deb", "copytarget": place / "bundle.yaml"}
    packaged, _ = board_bundle(place, notices=(notice,), version="1.2.0", **forms, **DEB)
    return packaged, place


def content(made: tuple[Packaged, Path], name: str) -> bytes:
    with tarfile.open(made[0].files[0]) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def test_everything_is_in_it(made: tuple[Packaged, Path]) -> None:
    packaged, place = made
    names = [file.name for file in packaged.manifest.files]
    folder = {f"model/{path.name}" for path in (place / "out").iterdir() if path.is_file()}
    ours = {"LICENSE", "NOTICE", "README.md", "agent.pyz", "provenance.intoto.jsonl", "sbom.cdx.json"}
    assert set(names) == folder | ours | {"licences/OUR-LICENCE.txt"}
    with tarfile.open(packaged.files[0]) as archive:
        assert archive.getnames() == ["manifest.json", "manifest.sig", *names]
        assert {(entry.mode, entry.uid, entry.mtime) for entry in archive} == {
            (0o644, 0, 946684800),
            (0o755, 0, 946684800),
        }
    [engine] = packaged.manifest.engines
    assert engine.model_dump() == {"file": "model/engine-fp32.engine", "l4t": L4T, **ENGINE}
    chain = [(link.what, link.sha256) for link in packaged.manifest.chain]
    assert [what for what, _ in chain] == ["trained files", "network", "engine"]
    assert chain[0][1] == SOURCE


def test_the_same_bytes_from_another_place_under_another_umask(made: tuple[Packaged, Path], tmp_path: Path) -> None:
    packaged, place = made
    shutil.copytree(place / "out", tmp_path / "elsewhere")
    shutil.copy(place / "OUR-LICENCE.txt", tmp_path)
    for path in (tmp_path / "elsewhere").iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    forms = {"deb": tmp_path / "b.deb", "copytarget": tmp_path / "b.yaml"}
    settings = PackageSettings(notices=(tmp_path / "OUR-LICENCE.txt",), version="1.2.0", **forms, **DEB)
    before = os.umask(0o077)
    try:
        again = package(tmp_path / "elsewhere", place / "me.key", tmp_path / "b.tar", settings)
    finally:
        os.umask(before)
    assert again.digest == packaged.digest
    for first, second in zip(packaged.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_the_bill_of_materials(made: tuple[Packaged, Path]) -> None:
    from cyclonedx.schema import SchemaVersion  # here: importing the validator takes seconds
    from cyclonedx.validation.json import JsonStrictValidator

    text = content(made, "sbom.cdx.json").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    listed = made[0].manifest.digests()
    hashes = {part["name"]: part["hashes"][0]["content"] for part in bill["components"]}
    assert {name: sha256 for name, sha256 in listed.items() if name != "sbom.cdx.json"}.items() <= hashes.items()
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert depends["file:model/engine-fp32.engine"] == []  # no file of the training is known by itself
    assert "file:agent.pyz" in depends["bundle"]
    assert "timestamp" not in bill["metadata"]
    needs = {entry["name"]: entry["value"] for entry in bill["metadata"]["component"]["properties"]}
    assert needs == {"deploycc:needs:runtime": "tensorrt 8.2.1", "deploycc:needs:compute-capability": "6.2"}


def test_the_provenance_is_signed_and_names_what_was_made_from_what(made: tuple[Packaged, Path]) -> None:
    envelope = json.loads(content(made, "provenance.intoto.jsonl"))
    payload = base64.b64decode(envelope["payload"])
    key = read_private_key(made[1] / "me.key").public_key()
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed_bytes(payload))
    statement = json.loads(payload)
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    listed = made[0].manifest.digests()
    assert subjects == {name: sha256 for name, sha256 in listed.items() if name.startswith("model/")}
    [trained, *_] = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert trained["digest"]["sha256"] == SOURCE


def test_the_readme_and_the_notice(made: tuple[Packaged, Path]) -> None:
    text = content(made, "README.md").decode()
    assert text.startswith("# ")
    assert "$" not in text.replace("$(python3", "")
    for word in ("targetfs", "Linux_for_Tegra", "copytarget.py", "mender-artifact", "RAUC", "SWUpdate", "openssl"):
        assert word in text
    assert "does not permit" in text
    assert b"11,321,613" not in content(made, "NOTICE")  # this network has no gates


def test_copytarget_names_every_folder_and_file(made: tuple[Packaged, Path]) -> None:
    packaged, place = made
    text = (place / "bundle.yaml").read_text()
    release = f"/var/lib/deploycc/releases/{packaged.digest}"
    assert (
        text.count("- destination:") == len(packaged.manifest.files) + 2 + 5 + 1
    )  # the manifest and its signature; folders; the link
    assert f'destination: "{release}/model/"' in text
    entry = f'"{release}/agent.pyz"\n      source:\n          pdk_sdk_installed_path: "agent.pyz"\n      perm: 0755'
    assert entry in text
    assert f'pdk_sdk_installed_path: "releases/{packaged.digest}"' in text.split("current")[1]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"name": "Big Name"}, "bundle-name"),
        ({"version": "v1"}, "bundle-version"),
        ({"version": "1.0\n"}, "bundle-version"),
        ({"deb": Path("x.deb")}, "deb-maintainer"),
        ({"deb": Path("x.deb"), "maintainer": "Jane"}, "deb-maintainer"),
    ],
)
def test_wrong_settings(made: tuple[Packaged, Path], tmp_path: Path, settings: dict, code: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError) as caught:
        package(made[1] / "out", made[1] / "me.key", tmp_path / "b.tar", PackageSettings(**settings))
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_bundle_can_hold(made: tuple[Packaged, Path], tmp_path: Path) -> None:
    notice = tmp_path / "with space"
    notice.write_text("x")
    with pytest.raises(ArtefactError) as caught:
        package(made[1] / "out", made[1] / "me.key", tmp_path / "b.tar", PackageSettings(notices=(notice,)))
    assert caught.value.code == "bundle-file-name"


def test_without_an_engine_the_board_needs_permission(tmp_path: Path) -> None:
    private, _ = keys(tmp_path)
    folder = board_folder(tmp_path / "out", engine=None)
    with pytest.raises(ArtefactError) as caught:
        package(folder, private, tmp_path / "b.tar")
    assert caught.value.code == "bundle-without-engine"
    assert not (tmp_path / "b.tar").exists()
    packaged = package(folder, private, tmp_path / "b.tar", PackageSettings(build_on_device=True))
    assert (packaged.manifest.engines, packaged.manifest.build_on_device) == ((), True)


def test_an_edited_figure_is_not_signed(made: tuple[Packaged, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[1] / "out", tmp_path / "out"))
    edit(folder, "latency.json", lambda latency: latency["runs"][0].update(network_sha256="0" * 64))
    with pytest.raises(ArtefactError) as caught:
        package(folder, made[1] / "me.key", tmp_path / "b.tar")
    assert caught.value.code == "chain-broken"


def test_a_listed_file_that_is_gone(made: tuple[Packaged, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[1] / "out", tmp_path / "out"))
    (folder / "report.html").unlink()
    with pytest.raises(ArtefactError, match=r"report\.html is not in the folder any more"):
        package(folder, made[1] / "me.key", tmp_path / "b.tar")
    with pytest.raises(ArtefactError) as caught:
        package(tmp_path, made[1] / "me.key", tmp_path / "b.tar")
    assert caught.value.code == "artefact-missing"


def test_missing_libraries_are_named(
    made: tuple[Packaged, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("cryptography", "cyclonedx.contrib.license.factories"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(DeployError, match=r"pip install '(cryptography|cyclonedx-python-lib)") as caught:
                package(made[1] / "out", made[1] / "me.key", tmp_path / "b.tar")
            assert caught.value.code == "package-extra-missing"


def test_the_patents_are_named_where_the_network_has_gates(tmp_path: Path) -> None:
    private, _ = keys(tmp_path)
    folder = board_folder(tmp_path / "out", model=onnx.load(MODELS / "street_ssd_lkam.onnx"))
    packaged = package(folder, private, tmp_path / "b.tar")
    notice = content((packaged, tmp_path), "NOTICE")
    for patent in (b"11,321,613", b"11,526,753", b"12,591,777"):
        assert patent in notice
