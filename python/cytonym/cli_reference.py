"""The commands on references of the user's own: `cytonym reference build` and its like."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import ModelError
from .io.bundle import check_bundle, open_bundle, read_reference_card
from .io.model_store import installed_model, installed_names, is_model_folder
from .reference.build import build_reference
from .reference.recipes import RECIPES, install_recipe
from .reference.request import FEW_CELLS, FEWEST_CELLS, LABEL_KEY, SCALES, BuildRequest
from .reference.restrict import RestrictRequest, restrict_reference
from .types import SPECIES, Model

BUILD = """Build a reference from labelled cells, once, to annotate any sample with.

The inputs are .h5ad files with raw counts (those of CELLxGENE need no option), 10x HDF5 files, MEX or Space
Ranger folders with a table of labels, or genes x types tables of averages. The reference is a folder, which
--cell-annotation-model of 'cytonym annotate' takes as it is. See docs/reference.md."""


def add_commands(commands: Any, parser_class: type[argparse.ArgumentParser], models_dir: Callable[..., Path]) -> None:
    """Adds `reference` with its own commands; `models_dir` tells the folder of installed models from the options."""
    text = "build and look at references of your own"
    group = commands.add_parser("reference", help=text, description=f"{text[0].upper()}{text[1:]}.")
    actions = group.add_subparsers(title="commands", metavar="<COMMAND>", required=True, parser_class=parser_class)

    def action(name: str, text: str, command: Any, description: str = "") -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=description or f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(command=command)
        return made

    _build_options(action("build", "build a reference from labelled files", _build, BUILD))
    for name, text, command in (
        ("info", "show what a reference knows and what it is worth", _info),
        ("validate", "compare a reference's files with its card", _validate),
    ):
        looking = action(name, text, lambda options, command=command: command(options, models_dir(options)))
        looking.add_argument("reference", metavar="DIR", help="folder of the reference, or name of an installed one")
        looking.add_argument("--models-dir", metavar="DIR", type=Path, help="folder of installed models")
    action("recipes", "list public sources to build from, with licence and citation", _recipes)
    installing = action(
        "install",
        "build a reference of a public source, and install it",
        lambda options: print_reference(install_recipe(options.recipe, models_dir(options), options.given)),
    )
    installing.add_argument("recipe", metavar="RECIPE", help="see 'cytonym reference recipes'")
    installing.add_argument(
        "--from", metavar="PATH", type=Path, dest="given", help="the source's files, where you have them [downloaded]"
    )
    installing.add_argument("--models-dir", metavar="DIR", type=Path, help="folder of installed models")
    cutting = action("restrict", "make a reference of some of the genes or types of another", _restrict)
    add = cutting.add_argument
    add("reference", metavar="DIR", type=Path, help="folder of the reference")
    add("--genes", metavar="FILE", type=Path, help="genes to keep, e.g. a panel's: one id or symbol a line")
    add("--types", metavar="FILE", type=Path, help="types to keep: one label a line")
    _name_and_output(cutting)


def _name_and_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--name", metavar="NAME", required=True, help="name of the reference: letters, digits, _, -, dots"
    )
    command.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="folder to make: the reference itself"
    )


def _build_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--input", metavar="PATH", type=Path, nargs="+", required=True, dest="inputs", help="labelled files, see above")
    _name_and_output(command)
    add(
        "--labels",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=(),
        help="CSV or TSV with the columns barcode and label, of inputs without labels inside: one for all, or one each",
    )
    add("--label-key", metavar="NAME", help=f"column of the labels [default: {LABEL_KEY}; of --labels: label]")
    add(
        "--ontology-key",
        metavar="NAME",
        help="column of Cell Ontology ids [default: cell_type_ontology_term_id, where it is there]",
    )
    add(
        "--ontology-map",
        metavar="FILE",
        type=Path,
        help="TSV with the columns label and cl_id, and dataset for rows of one input: its name without ending",
    )
    add(
        "--dataset-key",
        metavar="NAME",
        help="column of data sets [default: dataset_id, where it is there; else the file]",
    )
    add("--donor-key", metavar="NAME", help="column of donors [default: donor_id, where it is there]")
    add("--species", choices=SPECIES, help="[default: told by the genes]")
    add(
        "--averages",
        metavar="SCALE",
        nargs="?",
        const="auto",
        choices=SCALES,
        help="rows are averages of types, not cells; linear, log1p or log2 where their scale cannot be told",
    )
    add(
        "--few-cells",
        choices=FEW_CELLS,
        default="drop",
        help=f"labels of fewer than {FEWEST_CELLS} cells: leave out, or pool with an ontology parent [default: drop]",
    )
    add(
        "--ontology",
        metavar="FILE",
        type=Path,
        help="Cell Ontology as OBO or obographs JSON [default: the packaged terms]",
    )
    add("--levels", metavar="FILE", type=Path, help="display map of broad and coarse names [default: the packaged one]")
    add("--tissue", metavar="TEXT", default="", help="tissue of the reference, for its card")
    add("--title", metavar="TEXT", default="", help="what people read [default: made of the name]")
    add("--reference-version", metavar="TEXT", default="1", dest="version", help="for its card [default: 1]")
    add("--licence", metavar="TEXT", default="not stated", help="licence of the data, for the card")
    add("--citation", metavar="TEXT", default="", help="whom to cite, for the card")
    add("--seed", metavar="NUM", type=int, default=0, help="of the choice of cells [default: 0]")


def _build(options: argparse.Namespace) -> None:
    fields = {name: value for name, value in vars(options).items() if name in BuildRequest.__dataclass_fields__}
    lists = {name: tuple(fields[name]) for name in ("inputs", "labels")}
    model = build_reference(BuildRequest(**{**fields, **lists}))
    print_reference(model)


def _recipes(options: argparse.Namespace) -> None:
    for recipe in RECIPES.values():
        print(f"{recipe.name}: {recipe.title}")
        print(f"  {recipe.how}\n  licence: {recipe.licence}\n  cite: {recipe.citation}")
    print("\nYour own atlas: cytonym reference build")


def _info(options: argparse.Namespace, models_dir: Path) -> None:
    print_reference(_find(options.reference, models_dir))


def _validate(options: argparse.Namespace, models_dir: Path) -> None:
    folder = _find(options.reference, models_dir).folder
    assert folder is not None
    model = check_bundle(folder)
    print(f"{folder}: {model.card.name} is whole and as it was built.")


def _restrict(options: argparse.Namespace) -> None:
    print_reference(
        restrict_reference(
            RestrictRequest(options.reference, options.name, options.output, options.genes, options.types)
        )
    )


def _find(name: str, models_dir: Path) -> Model:
    if name in installed_names(models_dir):
        folder = installed_model(models_dir, name).folder
        assert folder is not None
        return open_bundle(folder)
    if is_model_folder(Path(name)):
        return open_bundle(Path(name))
    raise ModelError(f"{name} is neither a folder of a reference nor an installed one. See 'cytonym models list'.")


def print_reference(model: Model) -> None:
    """What the long card says, as text."""
    assert model.folder is not None
    card = read_reference_card(model.folder)
    rows = {
        "Name": card["name"],
        "Title": card["title"],
        "Version": card["version"],
        "Species": card["species"],
        "Tissue": card["tissue"],
        "Licence": card["licence"],
        "Citation": card["citation"],
        "Folder": str(model.folder),
        "Genes": f"{card['genes']:,}, joined by {card['joined_by']}",
        "Results": f"outs/cell_types/{model.card.folder}",
    }
    for name, text in rows.items():
        if text:
            print(f"{name + ':':<9} {text}")
    print("\nSources")
    for source in card["sources"]:
        rows_are = "averages" if card["averages"] else "cells"
        told = f"{source['n_labelled']:,} labelled {rows_are}, {source['values']}"
        print(f"  {source['sha256'][:16]}  {source['name']}: {told}")
    print("\nTypes: label, term, broad and coarse name, cells")
    for kind in card["types"]:
        term = kind["ontology_id"] or "no term"
        print(f"  {kind['label']}  {term}  {kind['broad']} / {kind['coarse']}  {kind['n_cells']:,}")
    for few in card["few_cells"]:
        became = few["became"] if few["became"] == "dropped" else f"pooled with '{few['became']}'"
        print(f"  {few['label']}: {few['n_cells']} cells, {became}")
    print("\nExpected in another study, on cells held out, shifted and thinned: accuracy of labels, share with one")
    for row in card["expected"]:
        if row["level"] in ("reported", "fine"):
            print(f"  {row['umis']:>6.0f} UMIs  {row['level']:<9} {_share(row['accuracy'])}  {_share(row['coverage'])}")
    if card["confusions"]:
        print("\nMost often confused")
    for row in card["confusions"]:
        print(f"  {row['type']} -> {row['taken_for']}  {row['share']:.2f}")
    for note in card["notes"]:
        print(f"\n{note}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
