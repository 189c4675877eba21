//! Benchmark results: one JSON file a benchmark and a Markdown table made from it.
//!
//! Every benchmark of the repository writes through here, so that a row always says what machine and commit it is from
//! and `met` is computed from the goal, never typed. Knows nothing about what is measured.

use crate::stats::Interval;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// One benchmark's results; the shape of `benches/results/<bench>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Name of the benchmark and of its file.
    pub bench: String,
    /// Processor, cores and memory.
    pub machine: String,
    /// Commit of the working tree, with `+` when it had changes.
    pub commit: String,
    /// When, in UTC.
    pub date: String,
    /// What was run.
    pub command: String,
    /// What does not fit in a row: how systems were pinned, what was left out.
    pub notes: Vec<String>,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// One number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// The number; absent when it is not finite.
    pub value: Option<f64>,
    /// Lower bound of the 95 % interval.
    pub lower: Option<f64>,
    /// Upper bound of the 95 % interval.
    pub upper: Option<f64>,
    /// What it is compared with.
    pub peer: Option<String>,
    /// The peer's number from the same run.
    pub peer_value: Option<f64>,
    /// `value / peer_value`.
    pub ratio: Option<f64>,
    /// The goal in words.
    pub goal: Option<String>,
    /// Whether the goal is met.
    pub met: Option<bool>,
}

/// A bound that a row should keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The value is at most this.
    AtMost(f64),
    /// The value is at least this.
    AtLeast(f64),
    /// The value lies between these.
    Within(f64, f64),
    /// The upper bound of the interval is at most this.
    UpperAtMost(f64),
    /// The lower bound of the interval is at least this.
    LowerAtLeast(f64),
}

impl Row {
    /// A number without an interval.
    pub fn new(metric: impl Into<String>, unit: &str, value: f64) -> Self {
        Self {
            metric: metric.into(),
            unit: unit.to_owned(),
            value: finite(value),
            ..Self::default()
        }
    }

    /// A number with its interval.
    pub fn interval(metric: impl Into<String>, unit: &str, interval: Interval) -> Self {
        Self {
            lower: finite(interval.lower),
            upper: finite(interval.upper),
            ..Self::new(metric, unit, interval.value)
        }
    }

    /// Compares with a peer of the same run.
    #[must_use]
    pub fn against(mut self, peer: &str, value: f64) -> Self {
        self.peer = Some(peer.to_owned());
        self.peer_value = finite(value);
        self.ratio = self
            .value
            .zip(self.peer_value)
            .and_then(|(own, peer)| finite(own / peer));
        self
    }

    /// Sets the goal and computes whether it is met; a number that is not finite meets nothing.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        let (text, met) = match goal {
            Goal::AtMost(bound) => (
                format!("<= {bound}"),
                self.value.is_some_and(|v| v <= bound),
            ),
            Goal::AtLeast(bound) => (
                format!(">= {bound}"),
                self.value.is_some_and(|v| v >= bound),
            ),
            Goal::Within(low, high) => (
                format!("{low} to {high}"),
                self.value.is_some_and(|v| (low..=high).contains(&v)),
            ),
            Goal::UpperAtMost(bound) => (
                format!("upper bound <= {bound}"),
                self.upper.is_some_and(|v| v <= bound),
            ),
            Goal::LowerAtLeast(bound) => (
                format!("lower bound >= {bound}"),
                self.lower.is_some_and(|v| v >= bound),
            ),
        };
        self.goal = Some(text);
        self.met = Some(met);
        self
    }
}

impl Results {
    /// Results of `bench`, made by `command`, stamped with this machine, commit and time.
    pub fn new(bench: &str, command: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            machine: machine(),
            commit: commit(),
            date: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            command: command.to_owned(),
            notes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Writes `<folder>/<bench>.json` and `<folder>/<bench>.md`.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        self.write_with(folder, &self.markdown())
    }

    /// The same with a page of the benchmark's own.
    pub fn write_with(&self, folder: &Path, markdown: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(folder.join(format!("{}.json", self.bench)), json + "\n")?;
        std::fs::write(folder.join(format!("{}.md", self.bench)), markdown)
    }

    /// The beginning of a page: what was run where and when, and the notes.
    pub fn head(&self) -> String {
        let mut text = format!(
            "# {}\n\n{} on {}, commit {}: `{}`\n\n",
            self.bench, self.date, self.machine, self.commit, self.command
        );
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    /// The rows as a Markdown table, unmet goals first.
    pub fn markdown(&self) -> String {
        self.head() + "\n" + &self.table()
    }

    /// The rows alone.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| metric | value | 95 % interval | peer | ratio | goal | met |\n\
             |---|---|---|---|---|---|---|\n",
        );
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| match row.met {
            Some(false) => 0,
            Some(true) => 1,
            None => 2,
        });
        for row in rows {
            let number = |value: Option<f64>| value.map_or("-".to_owned(), shown);
            let interval = match (row.lower, row.upper) {
                (Some(lower), Some(upper)) => format!("{} to {}", shown(lower), shown(upper)),
                _ => String::new(),
            };
            let peer = row.peer.as_ref().map_or(String::new(), |peer| {
                format!("{peer}: {}", number(row.peer_value))
            });
            let met = row.met.map_or("", |met| if met { "yes" } else { "no" });
            let _ = writeln!(
                text,
                "| {} | {} {} | {interval} | {peer} | {} | {} | {met} |",
                row.metric,
                number(row.value),
                row.unit,
                row.ratio.map_or(String::new(), shown),
                row.goal.as_deref().unwrap_or(""),
            );
        }
        text
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Four significant digits are more than any of these measurements has.
pub(crate) fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.01 || size == 0.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.2e}")
    }
}

fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|total| total.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10);
    let memory = memory_limit().map_or(memory, |limit| limit.min(memory));
    format!("{processor}, {cores} cores, {} GiB", memory >> 30)
}

/// Bytes that this process's group of processes may use, where one is set (cgroup v2, or v1).
fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |file| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    groups.lines().filter_map(limit_file).find_map(limit)
}

/// Where the limit of a line of `/proc/self/cgroup` stands: `ID:CONTROLLERS:PATH`, without controllers in version 2.
fn limit_file(line: &str) -> Option<String> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    match controllers {
        "" => Some(format!("/sys/fs/cgroup{path}/memory.max")),
        "memory" => Some(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")),
        _ => None,
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(text)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_none_or(|list| list.is_empty()) {
        commit
    } else {
        commit + "+"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn met_is_computed_and_a_failed_measurement_meets_nothing() {
        let regret = Interval {
            value: 0.05,
            lower: -0.1,
            upper: 0.2,
        };
        let row = Row::interval("quality_regret", "", regret).goal(Goal::UpperAtMost(0.1));
        assert_eq!(row.met, Some(false));
        assert_eq!(
            Row::new("x", "s", f64::INFINITY)
                .goal(Goal::AtMost(1.0))
                .met,
            Some(false)
        );
        assert_eq!(
            Row::new("x", "s", 2.5).goal(Goal::AtLeast(2.0)).met,
            Some(true)
        );
    }

    #[test]
    fn the_limit_of_memory_is_looked_for_where_either_version_has_it() {
        let found = ["5:cpu:/a", "4:memory:/a/b", "0::/c"].map(limit_file);
        let expected = [
            None,
            Some("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes".to_owned()),
            Some("/sys/fs/cgroup/c/memory.max".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn both_files_are_written_and_unmet_goals_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::new("demo", "weir bench");
        results
            .rows
            .push(Row::new("good", "s", 1.0).goal(Goal::AtMost(2.0)));
        results.rows.push(
            Row::new("bad", "s", 3.0)
                .against("peer", 6.0)
                .goal(Goal::AtMost(2.0)),
        );
        results.write(folder.path()).unwrap();
        let json = std::fs::read_to_string(folder.path().join("demo.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["rows"][1]["ratio"], 0.5);
        assert_eq!(value["rows"][1]["met"], false);
        let text = std::fs::read_to_string(folder.path().join("demo.md")).unwrap();
        assert!(
            text.find("| bad").unwrap() < text.find("| good").unwrap(),
            "{text}"
        );
    }
}
