//! What was measured, as results, as a table and as curves.

use super::{Asked, MatrixError, Model, Point, Speed, Variants};
use crate::evaluation::report::Curve;
use crate::results::{Goal, Results, Row, shown};
use crate::stats::{Interval, mean, mean_interval};
use std::fmt::Write as _;

/// Seed of the intervals.
const SEED: u64 = 1;

/// Most of a prompt over known blocks that is computed again.
const COMPUTED_AGAIN_MAX: f64 = 0.06;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Matrix {
    points: Vec<Measured>,
    models: Vec<Row>,
    notes: Vec<String>,
}

/// One point.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The model.
    pub model: String,
    /// Quantization of its file.
    pub quantization: String,
    /// Size of its file, bytes.
    pub bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Tokens of a prompt and its answer.
    pub context_tokens: u32,
    /// Tokens of a prompt that are read a second.
    pub prefill: Interval,
    /// Tokens that are generated a second.
    pub decode: Interval,
    /// From request to first text, milliseconds.
    pub first_token_ms: Interval,
    /// Most that the engine had resident, bytes.
    pub peak_bytes: Option<u64>,
}

impl Matrix {
    /// The points, in the order in which they were measured.
    pub fn points(&self) -> &[Measured] {
        &self.points
    }

    pub(super) fn stopped(mut self) -> Self {
        self.notes
            .push("stopped before the end: what is missing was not measured".to_owned());
        self
    }

    pub(super) fn take(&mut self, point: Point<'_>, measured: Result<Speed, MatrixError>) {
        let Speed {
            answers,
            peak_bytes,
        } = match measured {
            Ok(speed) => speed,
            Err(error) => return self.notes.push(format!("{point}: {error}")),
        };
        let interval = |of: fn(&super::Answered) -> f64| {
            let values: Vec<f64> = answers.iter().map(of).collect();
            mean_interval(&values, SEED)
        };
        self.points.push(Measured {
            model: point.model.name.clone(),
            quantization: point.model.quantization.clone(),
            bytes: point.model.bytes,
            threads: point.threads,
            context_tokens: point.context_tokens,
            prefill: interval(|answered| answered.prefill_per_second),
            decode: interval(|answered| answered.decode_per_second),
            first_token_ms: interval(|answered| answered.first_token_ms),
            peak_bytes,
        });
    }

    pub(super) fn take_variants(&mut self, model: &Model, measured: Result<Variants, MatrixError>) {
        let name = &model.name;
        let Variants {
            computed_again: (before, behind),
            templates,
            packing,
        } = match measured {
            Ok(variants) => variants,
            Err(error) => return self.notes.push(format!("{name}, layouts: {error}")),
        };
        let again = Row::new(format!("computed_again/{name}"), "of the prompt", before);
        self.models.push(
            again
                .against("blocks behind the question", behind)
                .goal(Goal::AtMost(COMPUTED_AGAIN_MAX)),
        );
        self.compare(
            name,
            ["question_tokens", "question_first_token", "quality"],
            &templates,
            "minimal template",
        );
        self.compare(
            name,
            ["packed_tokens", "packed_first_token", "packed_quality"],
            &packing,
            "ten whole passages",
        );
    }

    /// Rows of one way to ask against another: tokens of the prompt, time to the first token, quality.
    fn compare(
        &mut self,
        model: &str,
        metrics: [&str; 3],
        (one, other): &(Asked, Asked),
        peer: &str,
    ) {
        type Of = fn(&Asked) -> &Vec<f64>;
        let measured: [(&str, Of); 3] = [
            ("tokens", |asked| &asked.prompt_tokens),
            ("ms", |asked| &asked.first_token_ms),
            ("of 1 to 5", |asked| &asked.qualities),
        ];
        for (metric, (unit, of)) in metrics.into_iter().zip(measured) {
            if of(one).is_empty() {
                continue;
            }
            let row = Row::interval(
                format!("{metric}/{model}"),
                unit,
                mean_interval(of(one), SEED),
            );
            self.models.push(row.against(peer, mean(of(other))));
        }
    }

    /// The numbers as rows, named `bench`.
    pub fn results(&self, bench: &str, command: &str) -> Results {
        let mut results = Results::new(bench, command);
        results.notes.clone_from(&self.notes);
        for point in &self.points {
            let Measured {
                model,
                threads,
                context_tokens,
                ..
            } = point;
            let named = |metric: &str| {
                format!("{metric}/{model}/{threads}_threads/{context_tokens}_tokens")
            };
            let rows = [
                Row::interval(named("prefill"), "tokens/s", point.prefill),
                Row::interval(named("decode"), "tokens/s", point.decode),
                Row::interval(named("first_token"), "ms", point.first_token_ms),
            ];
            results.rows.extend(rows);
            let peak = point.peak_bytes;
            let peak = peak.map(|bytes| Row::new(named("peak_memory"), "MiB", mib(bytes)));
            results.rows.extend(peak);
        }
        results.rows.extend(self.models.iter().cloned());
        results
    }

    /// A page: a line a point, then a line a model.
    pub fn markdown(&self, results: &Results) -> String {
        let mut text = results.head();
        text.push_str(
            "\n| model | weights | file MiB | threads | context | prefill tokens/s | decode tokens/s | first token ms | peak MiB |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for point in &self.points {
            let Measured {
                model,
                quantization,
                bytes,
                threads,
                context_tokens,
                ..
            } = point;
            let peak = point
                .peak_bytes
                .map_or("-".to_owned(), |bytes| shown(mib(bytes)));
            let _ = writeln!(
                text,
                "| {model} | {quantization} | {} | {threads} | {context_tokens} | {} | {} | {} | {peak} |",
                shown(mib(*bytes)),
                ranged(point.prefill),
                ranged(point.decode),
                ranged(point.first_token_ms),
            );
        }
        if !self.models.is_empty() {
            let rest = Results {
                rows: self.models.clone(),
                ..results.clone()
            };
            text.push('\n');
            text.push_str(&rest.table());
        }
        text
    }

    /// Tokens generated a second by size of the file in GiB, at the largest context: a curve for each number of threads.
    pub fn curves(&self) -> Vec<Curve> {
        let context = self.points.iter().map(|point| point.context_tokens).max();
        let mut threads: Vec<u32> = self.points.iter().map(|point| point.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        let curve = |threads| {
            let of = |point: &&Measured| {
                point.threads == threads && Some(point.context_tokens) == context
            };
            let measured = self.points.iter().filter(of);
            let mut points: Vec<(f64, f64)> = measured
                .map(|point| (mib(point.bytes) / 1024.0, point.decode.value))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Curve {
                name: format!("{threads} threads"),
                points,
            }
        };
        threads.into_iter().map(curve).collect()
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ranged(interval: Interval) -> String {
    let Interval {
        value,
        lower,
        upper,
    } = interval;
    format!("{} ({} to {})", shown(value), shown(lower), shown(upper))
}

#[cfg(test)]
mod tests {
    use super::super::{Answered, Template};
    use super::*;

    fn model() -> Model {
        Model {
            name: "small".into(),
            file: "/models/small.gguf".into(),
            bytes: 512 << 20,
            quantization: "Q4_0".into(),
            real: true,
        }
    }

    fn point(model: &Model, threads: u32, context_tokens: u32) -> Point<'_> {
        Point {
            model,
            threads,
            context_tokens,
            template: Template::Own,
        }
    }

    fn speed(decode: f64) -> Result<Speed, MatrixError> {
        let answered = Answered::example(decode);
        Ok(Speed {
            answers: vec![answered, answered],
            peak_bytes: Some(600 << 20),
        })
    }

    fn measured() -> Matrix {
        let model = model();
        let mut matrix = Matrix::default();
        matrix.take(point(&model, 1, 128), speed(50.0));
        matrix.take(point(&model, 1, 512), speed(40.0));
        matrix.take(point(&model, 2, 512), speed(70.0));
        matrix.take(point(&model, 2, 128), Err(MatrixError::NoTimings));
        let questions = |tokens| Asked {
            prompt_tokens: vec![tokens],
            first_token_ms: vec![9.0],
            qualities: vec![4.0],
        };
        let variants = Variants {
            computed_again: (0.05, 0.9),
            templates: (questions(40.0), questions(20.0)),
            packing: (questions(300.0), questions(1200.0)),
        };
        matrix.take_variants(&model, Ok(variants));
        matrix
    }

    #[test]
    fn a_point_that_failed_is_a_note_and_the_others_are_rows() {
        let results = measured().results("matrix", "weir bench matrix");
        assert_eq!(
            results.notes,
            ["small, 2 threads, 128 tokens: the engine does not tell its times"]
        );
        let value = |metric: &str| {
            let mut rows = results.rows.iter();
            rows.find(|row| row.metric == metric)
                .and_then(|row| row.value)
        };
        assert_eq!(value("decode/small/2_threads/512_tokens"), Some(70.0));
        assert_eq!(value("peak_memory/small/1_threads/128_tokens"), Some(600.0));
        assert_eq!(value("decode/small/2_threads/128_tokens"), None);
        assert_eq!(value("quality/small"), Some(4.0));
        let again = results
            .rows
            .iter()
            .find(|row| row.metric == "computed_again/small");
        assert_eq!(again.and_then(|row| row.met), Some(true));
        let tokens = results
            .rows
            .iter()
            .find(|row| row.metric == "question_tokens/small");
        assert_eq!(tokens.and_then(|row| row.ratio), Some(2.0));
    }

    #[test]
    fn the_page_has_a_line_for_each_point_and_each_comparison() {
        let matrix = measured();
        let page = matrix.markdown(&matrix.results("matrix", "weir bench matrix"));
        assert!(
            page.contains("| small | Q4_0 | 512.0 | 2 | 512 |"),
            "{page}"
        );
        assert!(
            page.contains("| quality/small | 4.000 of 1 to 5 |"),
            "{page}"
        );
        assert!(page.contains("minimal template: 20.0"), "{page}");
        assert!(page.contains("ten whole passages: 1200"), "{page}");
    }

    #[test]
    fn curves_go_by_size_at_the_largest_context() {
        let curves = measured().curves();
        let names: Vec<&str> = curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["1 threads", "2 threads"]);
        assert_eq!(curves[0].points, [(0.5, 40.0)]);
    }

    #[test]
    fn random_weights_get_no_quality() {
        let (mut matrix, model) = (Matrix::default(), model());
        let variants = Variants {
            computed_again: (0.5, 0.9),
            templates: <(Asked, Asked)>::default(),
            packing: <(Asked, Asked)>::default(),
        };
        matrix.take_variants(&model, Ok(variants));
        let results = matrix.results("matrix", "weir bench matrix");
        let metrics: Vec<&str> = results.rows.iter().map(|row| row.metric.as_str()).collect();
        assert_eq!(metrics, ["computed_again/small"]);
        assert_eq!(results.rows[0].met, Some(false));
    }
}
