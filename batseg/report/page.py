"""One self-contained HTML page: sections of text, tables and pictures (embedded, so that the file can be sent)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment

from batseg.report.table import Row, cell
from batseg.volumes import write_text

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
 :root { color-scheme: light dark }
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
 h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
 table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
 th, td { padding: .25rem .7rem; border-bottom: 1px solid #9995; text-align: right; white-space: nowrap }
 th:first-child, td:first-child { text-align: left }
 img { max-width: 100%; background: #fff; border-radius: 4px }
 .note { border-left: 4px solid #e8a33d; padding: .3rem .8rem; background: #e8a33d22 }
 code { font-size: .9em }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if note %}<p class="note">{{ note }}</p>{% endif %}
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for paragraph in section.text %}<p>{{ paragraph }}</p>{% endfor %}
{% if section.command %}<p>Made by <code>{{ section.command }}</code></p>{% endif %}
{% if section.rows %}
<table><thead><tr>{% for key in section.rows[0] %}<th>{{ key }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in section.rows %}<tr>{% for value in row.values() %}<td>{{ cell(value) }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% endif %}
{% for name, data in section.pictures %}
<p><img alt="{{ name }}" src="data:image/png;base64,{{ data }}"></p>
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A part of the page; `figures` are paths of PNG files, `command` is what makes the numbers again."""

    title: str
    text: Sequence[str] = ()
    rows: Sequence[Row] = ()
    figures: Sequence[Path] = field(default=())
    command: str = ""

    @property
    def pictures(self) -> list[tuple[str, str]]:
        return [(Path(file).stem, base64.b64encode(Path(file).read_bytes()).decode()) for file in self.figures]


def write_page(path: str | Path, title: str, sections: Sequence[Section], note: str = "") -> Path:
    """Write the page, whole or not at all."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE)
    return write_text(path, template.render(title=title, sections=sections, note=note, cell=cell))
