//! The comparison as drawings, and whether expectations hold.

use super::{Found, mean_of};
use crate::evaluation::report::{Curve, Figure, Section};
use crate::stats::mean;
use weir_router::calibrate::{Scored, calibration_error};
use weir_router::train::compare::Policy;

/// Bins of the reliability diagram.
const BINS: usize = 8;

/// Quality from which an answer counts as right.
const RIGHT: f64 = 3.0;

impl Found<'_> {
    pub(super) fn reliability(&self) -> (Section, Figure) {
        let expected = &self.of(Policy::FastGrnn).expected;
        let before: Vec<(f64, f64)> = expected.iter().map(|e| (e.before, e.quality)).collect();
        let after = expected.iter().filter_map(|e| Some((e.after?, e.quality)));
        let after: Vec<(f64, f64)> = after.collect();
        let kinds = [("before the answer", before), ("once it was read", after)];
        let row = |(name, pairs): &(&str, Vec<(f64, f64)>)| {
            let scored: Vec<Scored> = pairs
                .iter()
                .map(|(expected, quality)| Scored {
                    confidence: ((expected - 1.0) / 4.0).clamp(0.0, 1.0),
                    right: *quality >= RIGHT,
                })
                .collect();
            let error = calibration_error(&scored, BINS);
            vec![
                (*name).to_owned(),
                scored.len().to_string(),
                format!("{:.3}", error.plain),
                format!("{:.3}", error.debiased),
            ]
        };
        let section = Section {
            title: "Whether expectations hold".to_owned(),
            text: vec![
                "The FastGRNN's expected quality of every arm that was tried, against what came out; an answer counts as right \
                 from quality 3."
                    .to_owned(),
            ],
            columns: ["expectation", "answers", "ECE, plain", "ECE, debiased"]
                .map(str::to_owned)
                .to_vec(),
            rows: kinds.iter().map(row).collect(),
        };
        let mut curves = vec![Curve {
            name: "as expected".to_owned(),
            points: vec![(1.0, 1.0), (5.0, 5.0)],
        }];
        curves.extend(kinds.into_iter().map(|(name, pairs)| Curve {
            name: name.to_owned(),
            points: binned(pairs),
        }));
        let figure = Figure {
            name: "router-eval-reliability".to_owned(),
            title: "Quality that came out, against what was expected".to_owned(),
            across: "expected quality".to_owned(),
            up: "mean quality".to_owned(),
            curves,
        };
        (section, figure)
    }

    pub(super) fn frontier(&self) -> Figure {
        let shown = [
            Policy::FastGrnn,
            Policy::Neighbours,
            Policy::Ridge,
            Policy::Perceptron,
            Policy::Oracle,
        ];
        let biggest = mean_of(self.worth(Policy::AlwaysBiggest), |worth| worth.quality);
        let curve = |policy: Policy| {
            let points = self.of(policy).worth.iter().map(|worth| {
                let quality = mean_of(worth, |worth| worth.quality);
                (mean_of(worth, |worth| worth.latency_s), biggest - quality)
            });
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Curve {
                name: policy.to_string(),
                points,
            }
        };
        Figure {
            name: "router-eval-frontier".to_owned(),
            title: "Regret against seconds, as the price of a second rises".to_owned(),
            across: "mean seconds, second tries included".to_owned(),
            up: "quality_regret against always biggest".to_owned(),
            curves: shown.into_iter().map(curve).collect(),
        }
    }
}

/// Means of bins of equal size.
fn binned(mut pairs: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = pairs.len().div_ceil(BINS).max(1);
    let bins = pairs.chunks(size).map(|bin| {
        let (expected, found): (Vec<f64>, Vec<f64>) = bin.iter().copied().unzip();
        (mean(&expected), mean(&found))
    });
    bins.collect()
}
