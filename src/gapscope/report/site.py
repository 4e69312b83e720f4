"""One site of committed records: index, all verdicts, all remedies, and each study's page. No torch is needed."""

from pathlib import Path

from gapscope.errors import InputError
from gapscope.records.files import write_text
from gapscope.report import overview, remedies, sections
from gapscope.report.index import index
from gapscope.report.page import environment, page


def studies(metrics: Path, conf: Path) -> list[str]:
    """Return the studies that have results and a file in conf/study, by name.

    Raises:
        InputError: there is none.
    """
    found = sorted(path.name for path in metrics.glob("*") if path.is_dir() and (conf / f"{path.name}.yaml").is_file())
    if not found:
        raise InputError(f"{metrics} has no results of a study in {conf}: run one, or go to the repository's root")
    return found


def build(out: Path, metrics: Path, plots: Path, conf: Path) -> list[Path]:
    """Write the site and return its files, the index first.

    Args:
        out: folder of the site.
        metrics: folder of all studies' tables.
        plots: folder of all studies' figures.
        conf: folder of the studies' files.
    """
    names = studies(metrics, conf)
    texts = {"index": index(names, metrics), "overview": overview_page(metrics, plots)}
    texts["remedies"] = remedies_page(metrics, names)
    for name in names:
        paths = (metrics / name, plots / name, conf / f"{name}.yaml", metrics / "claims" / f"{name}.csv")
        texts[name] = page(name, *paths)
    for name, text in texts.items():
        write_text(out / f"{name}.html", text)
    return [out / f"{name}.html" for name in texts]


def remedies_page(metrics: Path, names: list[str]) -> str:
    """Return the page of all remedies: the gap before and after, and what they cost."""
    found = remedies.rows(metrics, names)
    figure = remedies.figure(found) if len(found) else ""
    body = sections.html([sections.Section("", 0, [remedies.table(found)])])
    return environment().get_template("remedies.html.j2").render(figure=figure, body=body)


def overview_page(metrics: Path, plots: Path) -> str:
    """Return the page of every verdict, printed and measured gaps, and what was run."""
    body = sections.html(overview.sections(metrics, plots))
    return environment().get_template("overview.html.j2").render(body=body)
