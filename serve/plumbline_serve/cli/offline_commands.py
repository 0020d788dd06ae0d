"""`plumbline batch`, `calibrate`, `compare`, `evaluate`: their arguments; what they do is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML, or preset:NAME; default: $PLUMBLINE_CONFIG.")
]


def batch(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Folder, .csv, .tsv, .jsonl, .parquet, or .tar of webdataset.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".parquet, .jsonl, .csv, or a folder of Parquet shards.")
    ],
    text: Annotated[str | None, typer.Option("--text", help="Of rows that have none.")] = None,
    scorers: Annotated[str | None, typer.Option(help="Comma-separated; default: every loaded scorer.")] = None,
    image_column: Annotated[str, typer.Option(help="Column of paths, addresses or bytes.")] = "image",
    text_column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    questions: Annotated[Path | None, typer.Option(help="File of questions about each text's images.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Of a video file, evenly through its time.")] = 8,
    pool: Annotated[str, typer.Option(help="How the values of frames become one: mean, min, clip4clip.")] = "mean",
    measures_set: Annotated[
        bool, typer.Option("--set", help="Measure how diverse all images are together, and which are duplicates.")
    ] = False,
    set_by: Annotated[str | None, typer.Option(help="With --set: measure each value of this column, too.")] = None,
    near_duplicate: Annotated[
        float, typer.Option(min=-1, max=1, help="With --set: least cosine of near-duplicates.")
    ] = 0.98,
    report: Annotated[Path | None, typer.Option(help="HTML file to write about the scores.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that ended early.")] = False,
    shard_rows: Annotated[int, typer.Option(min=1, help="Most rows of a part that is written at once.")] = 4096,
    config: ConfigOption = None,
    server: Annotated[
        str | None, typer.Option(help="Score through a service: http://host:8000, or host:9000 of gRPC.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="For the server; other users see arguments.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authority of the server's certificate.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Score on the Ray cluster of $RAY_ADDRESS, or one here.")] = False,
) -> None:
    """Score many images from a folder or a table into a table."""
    from plumbline_serve.cli import batch_command
    from plumbline_serve.offline.rows import RowReading, pool_of

    columns = RowReading(source, image_column, text_column, text=text, num_frames=frames, pool=pool_of(pool))
    reading = batch_command.reading_of(source, columns, questions=questions)
    sets = batch_command.set_options(near_duplicate, set_by, is_asked=measures_set)
    asked = batch_command.Asked(source, output, reading, batch_command.names_of(scorers), questions, sets)
    place = batch_command.Place(config, server, api_key, ca, on_ray=ray)
    raise typer.Exit(batch_command.run(asked, place, resumes=resume, shard_rows=shard_rows, report=report))


def calibrate(
    file: Annotated[Path, typer.Argument(help="CSV or JSONL with a score and a label in each row.")],
    scorer: Annotated[str | None, typer.Option(help="Whose scores they are.")] = None,
    combine: Annotated[
        str | None, typer.Option(help="Or the combination, as REST's combine: JSON, or a file of it.")
    ] = None,
    alpha: Annotated[float, typer.Option(min=1e-6, max=1 - 1e-6, help="Share that may be lost, or may pass.")] = 0.05,
    direction: Annotated[str, typer.Option(help="keep_good, or reject_bad.")] = "keep_good",
    confidence: Annotated[float | None, typer.Option(help="Of the promise; default: on average.")] = None,
    score_column: Annotated[
        str | None, typer.Option(help="Default: the scorer's or combination's name, or score.")
    ] = None,
    label_column: Annotated[str, typer.Option(help="Column of labels: true where good.")] = "label",
    group_column: Annotated[str | None, typer.Option(help="Column of groups; each has its threshold.")] = None,
    human: Annotated[
        str | None, typer.Option(help="Column of people's judgement: measure how scores correlate with it, no more.")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Column of prompts, for --human.")] = "text",
    name: Annotated[str | None, typer.Option(help="Keep it under this name, for filters.")] = None,
    config: ConfigOption = None,
    server: Annotated[str | None, typer.Option(help="Keep it in the service at this URL; default: the store.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="For the server; other users see arguments.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authority of the server's certificate.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find a threshold with a promise from labelled scores, or how scores correlate with people's judgement."""
    from plumbline_serve.cli import calibrate_command as command
    from plumbline_serve.cli import labelled_rows as rows

    whose = command.Scored.parse(scorer, combine)
    chosen = score_column or rows.score_column(file, whose.name)
    if human is not None:
        found = command.correlation(file, whose, chosen, human, prompt_column)
        raise typer.Exit(command.show_correlation(found, as_json=as_json))
    given = rows.labelled(file, rows.Columns(chosen, label_column, group_column))
    promise = command.Promise.parse(whose, alpha, direction, confidence)
    if name is None:
        raise typer.Exit(command.show_thresholds(command.found_here(given, promise), given, as_json=as_json))
    keeper = command.keeper(config, server, api_key, ca)
    raise typer.Exit(command.show_kept(command.keep(given, promise, name, keeper), given, as_json=as_json))


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Output of plumbline batch.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same prompts.")],
    fail_below: Annotated[
        list[str] | None, typer.Option(help="Exit with 1 where a mean delta is below: -0.01, or vqascore=-0.01.")
    ] = None,
    scorers: Annotated[str | None, typer.Option(help="Comma-separated; default: all that both have.")] = None,
    by: Annotated[str | None, typer.Option(help="Columns that pair rows; default: text,seed.")] = None,
    tag: Annotated[str | None, typer.Option(help="Column of tags; default: tag, where there is one.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1000, max=1_000_000, help="Of the bootstrap.")] = 10_000,
    report: Annotated[Path | None, typer.Option(help="HTML file to write, with the worst regressions.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two outputs of batch, pair by pair; scores of other weights or conventions are refused."""
    from plumbline_serve.cli import compare_command
    from plumbline_serve.cli.batch_command import names_of
    from plumbline_serve.cli.results import check_page

    check_page(report)
    floors = compare_command.Floors.parse(fail_below or ())
    choice = compare_command.Choice(names_of(scorers), names_of(by), tag, seed, resamples)
    sides = compare_command.Sides.open(before, after)
    comparison = compare_command.run(sides, choice)
    if report is not None:
        compare_command.write_report(comparison, sides, report)
    raise typer.Exit(compare_command.show(comparison, floors, as_json=as_json))


def evaluate(
    suite: Annotated[str, typer.Argument(help="scenes, tifa160, genai-bench, winoground, foil, …; see docs.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the suite's published files; scenes need none.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Repeatable: a column each; default: as served.")] = None,
    scorers: Annotated[
        str | None, typer.Option(help="Comma-separated; default: those that the suite is about.")
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Reproduce a paper's table from its published files."""
    from plumbline_serve.cli import evaluate_command
    from plumbline_serve.cli.batch_command import names_of
    from plumbline_serve.offline.evaluation import evaluate as measure
    from plumbline_serve.offline.evaluation import suite_of
    from plumbline_serve.offline.progress import metered
    from plumbline_serve.settings import load_settings

    chosen, settings = suite_of(suite), load_settings(config)
    run = measure(chosen, data, settings, precisions=precision or (), scorers=names_of(scorers))
    raise typer.Exit(evaluate_command.show(run(metered), as_json=as_json))
