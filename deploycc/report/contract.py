"""The contract as tables: what an application feeds and reads, and the files that it needs."""

from __future__ import annotations

from deploycc.documents.contract import HeadsContract, IntegrationContract, NetworkContract, RowContract
from deploycc.report.format import preparation, size
from deploycc.report.table import Table


def contract_tables(contract: IntegrationContract) -> tuple[Table, ...]:
    """The input, the outputs of each network, how boxes follow, class names, files with digests."""
    tables = [_input(contract)]
    networks: dict[tuple[object, ...], list[NetworkContract]] = {}
    for network in contract.networks:  # several are read alike
        networks.setdefault((network.outputs, network.decoding, network.python, network.row), []).append(network)
    for alike in networks.values():
        labels = ", ".join(network.label for network in alike)
        rows = tuple(
            (out.name, " × ".join("?" if size is None else str(size) for size in out.shape), out.type, out.text)
            for out in alike[0].outputs
        )
        tables.append(Table(f"Outputs of {labels}", ("output", "shape", "type", "holds"), rows))
        tables.append(Table(f"Boxes of {labels}", ("fact", "value"), tuple(_boxes(contract, alike[0]))))
    if contract.class_names:
        names = tuple((str(index), name) for index, name in enumerate(contract.class_names))
        tables.append(Table("Classes", ("index", "name"), names))
    files = tuple((file.name, size(file.size_bytes), file.sha256) for file in contract.files)
    trained = tuple((f"{each.role} file {each.name}", "", each.sha256) for each in contract.trained_files)
    return (*tables, Table("Files", ("file", "size", "SHA-256"), (*files, *trained)))


def _input(contract: IntegrationContract) -> Table:
    spec = contract.input
    rows = (
        ("tensor", spec.name),
        ("shape", f"{' × '.join(map(str, spec.shape))}, {spec.layout}, {spec.type}"),
        ("values", f"{preparation(spec.colour, spec.mean, spec.scale)}, pixels 0..255"),
        ("stated by", "an assumption: no file states them" if spec.assumed else "the model or its description"),
        ("resizing", "bilinear between pixel centres, stretched, not smoothed, rounded to whole grey levels"),
    )
    return Table("Input", ("fact", "value"), rows)


def _boxes(contract: IntegrationContract, network: NetworkContract) -> list[tuple[str, str]]:
    nms = contract.nms
    where = {
        "host": "the application decodes and suppresses",
        "network": "the network decodes and suppresses; the application only unpacks",
        "unknown": "not known: the outputs were not recognised as detections",
    }
    rows = [] if network.row is None else _row(network, network.row)
    rows.append(("decoding", where[network.decoding]))
    if network.heads is not None:
        rows += _heads(network.heads)
    if network.detections is not None:
        rows.append(("priors", "none needed: the network applies its own"))
    if network.decoding != "unknown":
        limits = f"top_k {nms.top_k}, keep_top_k {nms.keep_top_k}"
        thresholds = f"score above {nms.score_threshold:g}, IoU above {nms.iou_threshold:g} is suppressed"
        rows += [("suppression", f"{thresholds}, {limits}"), ("decoders", f"{network.python}, {network.cpp}")]
    return rows


def _row(network: NetworkContract, row: RowContract) -> list[tuple[str, str]]:
    handed = ", ".join(f"{tensor.name} {' × '.join(map(str, tensor.shape))}" for tensor in row.handed)
    engines = "; ".join(f"{number}: {second.engine}" for number, second in enumerate(row.second))
    return [
        ("in a row", f"{network.engine} first; its output {row.decision} says which engine follows: {engines}"),
        ("handed over", f"{handed or 'nothing'}; {row.text}"),
    ]


def _heads(heads: HeadsContract) -> list[tuple[str, str]]:
    background = "none" if heads.background is None else f"class {heads.background}"
    dropped = heads.dropped
    rows = [
        ("offsets", f"{'y x h w' if heads.y_first else 'x y w h'}; {heads.formula}"),
        ("scores", f"{heads.activation or 'final'}: apply nothing more; background: {background}"),
        ("priors", f"{heads.prior_count}: {heads.priors}, {heads.variances}, in C {heads.header}"),
    ]
    if dropped is not None:
        rows.append(
            ("dropped priors", f"{dropped.trained - dropped.kept} of {dropped.trained}, kept rows in {dropped.rows}")
        )
    return rows
