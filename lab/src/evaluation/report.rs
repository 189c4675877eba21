//! An evaluation as data, and as pages to read.

use crate::results::Results;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// Everything that was found: the shape of `router-eval.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluated {
    /// Rows with goals.
    #[serde(flatten)]
    pub results: Results,
    /// Tables to read.
    pub sections: Vec<Section>,
    /// Drawings to make.
    pub figures: Vec<Figure>,
}

/// A table with what has to be said about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Paragraphs before it.
    pub text: Vec<String>,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
}

/// Curves to draw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Name of the file without its end.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What goes from left to right.
    pub across: String,
    /// What goes upwards.
    pub up: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// One curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// What it is of.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("cannot read the evaluation {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path} is no evaluation: {source}; make one with `weir router eval --results FOLDER`")]
    Parse {
        /// The file.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
}

impl Evaluated {
    /// Reads `router-eval.json`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ReportError::File {
            path: shown.clone(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|source| ReportError::Parse {
            path: shown,
            source,
        })
    }

    /// Everything as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("an evaluation is plain data") + "\n"
    }

    /// Everything as Markdown; figures are linked by name.
    pub fn markdown(&self) -> String {
        let mut text = self.results.markdown();
        for section in &self.sections {
            let _ = write!(text, "\n## {}\n\n", section.title);
            for paragraph in &section.text {
                let _ = write!(text, "{paragraph}\n\n");
            }
            let _ = writeln!(text, "| {} |", section.columns.join(" | "));
            let _ = writeln!(text, "|{}", "---|".repeat(section.columns.len()));
            for row in &section.rows {
                let _ = writeln!(text, "| {} |", row.join(" | "));
            }
        }
        for figure in &self.figures {
            let _ = write!(text, "\n![{}]({}.svg)\n", figure.title, figure.name);
        }
        text
    }

    /// Everything as one HTML page; `drawing` makes a figure an SVG.
    pub fn html(&self, drawing: &dyn Fn(&Figure) -> String) -> String {
        let results = &self.results;
        let mut body = format!(
            "<h1>{}</h1>\n<p>{} on {}, commit {}: <code>{}</code></p>\n<ul>\n",
            escaped(&results.bench),
            escaped(&results.date),
            escaped(&results.machine),
            escaped(&results.commit),
            escaped(&results.command)
        );
        for note in &results.notes {
            let _ = writeln!(body, "<li>{}</li>", escaped(note));
        }
        body.push_str("</ul>\n");
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
        let rows = results.rows.iter().map(|row| {
            let met = row.met.map_or("", |met| if met { "yes" } else { "no" });
            vec![
                row.metric.clone(),
                format!("{} {}", number(row.value), row.unit),
                format!("{} to {}", number(row.lower), number(row.upper)),
                row.goal.clone().unwrap_or_default(),
                met.to_owned(),
            ]
        });
        let columns = ["metric", "value", "95 % interval", "goal", "met"].map(str::to_owned);
        table(&mut body, &columns, &rows.collect::<Vec<_>>());
        for section in &self.sections {
            let _ = writeln!(body, "<h2>{}</h2>", escaped(&section.title));
            for paragraph in &section.text {
                let _ = writeln!(body, "<p>{}</p>", escaped(paragraph));
            }
            table(&mut body, &section.columns, &section.rows);
        }
        for figure in &self.figures {
            let _ = writeln!(body, "<figure>{}</figure>", drawing(figure));
        }
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{}</title>\n<style>{STYLE}</style>\n{body}</html>\n",
            escaped(&results.bench)
        )
    }
}

const STYLE: &str = "body{font:15px system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #8884;padding:.3em .6em;text-align:left}\
    figure{max-width:48em}:root{color-scheme:light dark}";

fn table(body: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String], tag: &str| -> String {
        let cells = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    body.push_str("<table>\n");
    body.push_str(&line(columns, "th"));
    rows.iter().for_each(|row| body.push_str(&line(row, "td")));
    body.push_str("</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Row;

    fn evaluated() -> Evaluated {
        let mut results = Results::new("demo", "weir router eval");
        results.rows.push(Row::new("a < b", "s", 1.0));
        Evaluated {
            results,
            sections: vec![Section {
                title: "Part".to_owned(),
                text: vec!["Said.".to_owned()],
                columns: vec!["x".to_owned(), "y".to_owned()],
                rows: vec![vec!["1".to_owned(), "2".to_owned()]],
            }],
            figures: vec![Figure {
                name: "demo-figure".to_owned(),
                title: "Drawn".to_owned(),
                across: "x".to_owned(),
                up: "y".to_owned(),
                curves: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_report_survives_its_file_and_is_written_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.json");
        std::fs::write(&path, evaluated().json()).unwrap();
        let read = Evaluated::read(&path).unwrap();
        assert_eq!(read.json(), evaluated_like(&read).json());
        let text = read.markdown();
        assert!(
            text.contains("## Part\n\nSaid.\n\n| x | y |\n|---|---|\n| 1 | 2 |"),
            "{text}"
        );
        assert!(text.contains("![Drawn](demo-figure.svg)"));
        let page = read.html(&|figure| format!("<svg>{}</svg>", figure.name));
        assert!(page.contains("a &lt; b") && page.contains("<svg>demo-figure</svg>"));
        std::fs::write(&path, "{}").unwrap();
        let error = Evaluated::read(&path).unwrap_err().to_string();
        assert!(error.contains("demo.json is no evaluation"), "{error}");
    }

    /// The same but for the moment it was made.
    fn evaluated_like(other: &Evaluated) -> Evaluated {
        let mut same = evaluated();
        same.results.date.clone_from(&other.results.date);
        same
    }
}
