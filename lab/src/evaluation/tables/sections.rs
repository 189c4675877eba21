//! A table's comparison as rows, tables to read and drawings.

use super::{Measured, ROUTER, WAYS, Way};
use crate::evaluation::report::{Curve, Evaluated, Figure, Section};
use crate::evaluation::{gained, shown};
use crate::results::{Goal, Results, Row as ResultRow};
use crate::stats::{Interval, mean};
use weir_router::train::tabular::TableLearner;

/// Points (1 to 5) that count as no loss against the bigger model.
const REGRET_MAX: f64 = 0.1;

impl Measured<'_> {
    /// Performance gap recovered, averaged over every share that the bigger model may get (Ong et al. 2024).
    fn apgr(&self, way: Way) -> Interval {
        let (weak, strong) = (self.order[0], self.order[1]);
        let bigger = &self.tallies[way.place()].bigger;
        let gap = |row: usize| self.scores(row)[strong] - self.scores(row)[weak];
        self.groups.ratio(|row| bigger[row] * gap(row), gap)
    }

    pub(super) fn pair(&self, into: &mut Evaluated) {
        self.pair_rows(&mut into.results);
        into.sections.push(self.pair_section());
        into.figures.push(self.pair_figure());
    }

    fn pair_rows(&self, results: &mut Results) {
        let name = &self.table.name;
        let strong = self.order[1];
        let goal = if name.contains("mmlu") { 0.68 } else { 0.64 };
        let apgr = ResultRow::interval(format!("{name}: APGR"), "share", self.apgr(ROUTER));
        let apgr = apgr.goal(Goal::AtLeast(goal));
        if apgr.met == Some(false) {
            results.notes.push(format!(
                "missed, {name}: APGR: the features are {}; a classifier of all words has {:.3} on the same folds, and an \
                 oracle {:.3}",
                self.features(),
                self.apgr(Way::Words).value,
                self.apgr(Way::Oracle).value
            ));
        }
        results.rows.push(apgr);
        let share = self.share_needed(ROUTER);
        let metric = format!(
            "{name}: share of {} at a quality_regret of {REGRET_MAX}",
            self.table.models[strong]
        );
        let row = ResultRow::new(metric, "share", share).goal(Goal::AtMost(0.5));
        if row.met == Some(false) {
            results.notes.push(format!(
                "missed, {name}: share of the bigger model: {:.0} % of the bigger model's lead may be lost at that regret, for \
                 which an oracle needs {:.3} of the requests",
                100.0 * REGRET_MAX / 4.0 / self.lead(),
                self.share_needed(Way::Oracle)
            ));
        }
        results.rows.push(row);
    }

    fn pair_section(&self) -> Section {
        let [weak, strong] = [self.order[0], self.order[1]];
        let gap = |row: usize| self.scores(row)[strong] - self.scores(row)[weak];
        let gain_over = |way: Way| {
            let (own, other) = (
                &self.tallies[ROUTER.place()].bigger,
                &self.tallies[way.place()].bigger,
            );
            self.groups
                .ratio(|row| (own[row] - other[row]) * gap(row), gap)
        };
        let row = |way: Way| {
            let [gain, found] = gained((way != ROUTER).then(|| gain_over(way)));
            vec![
                way.name().to_owned(),
                shown(&self.apgr(way)),
                format!("{:.3}", self.share_needed(way)),
                gain,
                found,
            ]
        };
        Section {
            title: self.table.name.clone(),
            text: vec![format!(
                "{} (mean score {:.3}) and {} ({:.3}). APGR is the part of that lead which is kept, averaged over every share of \
                 requests that the bigger model may get; 0.5 is chance.",
                self.table.models[weak],
                self.mean_score(weak),
                self.table.models[strong],
                self.mean_score(strong),
            )],
            columns: vec![
                "router".to_owned(),
                "APGR".to_owned(),
                format!("share of the bigger model at a quality_regret of {REGRET_MAX}"),
                "FastGRNN's gain over it".to_owned(),
                "FastGRNN is".to_owned(),
            ],
            rows: ways_of_a_pair().map(row).collect(),
        }
    }

    fn pair_figure(&self) -> Figure {
        let (name, strong) = (&self.table.name, self.order[1]);
        let curve = |way: Way| Curve {
            name: way.name().to_owned(),
            points: self.curve(way),
        };
        Figure {
            name: format!("router-eval-{}", plain(name)),
            title: format!("{name}: lead of the bigger model kept, by its share"),
            across: format!("share of {}", self.table.models[strong]),
            up: "part of the lead kept".to_owned(),
            curves: ways_of_a_pair()
                .filter(|way| !matches!(way, Way::Learner(TableLearner::Mission)))
                .take(6)
                .map(curve)
                .collect(),
        }
    }

    fn mean_score(&self, model: usize) -> f64 {
        mean(
            &self
                .table
                .rows
                .iter()
                .map(|row| row.scores[model])
                .collect::<Vec<_>>(),
        )
    }

    fn lead(&self) -> f64 {
        self.mean_score(self.order[1]) - self.mean_score(self.order[0])
    }

    /// Part of the bigger model's lead that is kept at shares of it from none to all, rows taken by how early the router
    /// sends them there.
    fn curve(&self, way: Way) -> Vec<(f64, f64)> {
        let (weak, strong) = (self.order[0], self.order[1]);
        let bigger = &self.tallies[way.place()].bigger;
        let mut rows: Vec<usize> = (0..bigger.len()).collect();
        rows.sort_by(|a, b| bigger[*b].total_cmp(&bigger[*a]));
        let total: f64 = self.lead() * rows.len() as f64;
        let steps = 20;
        let mut points = vec![(0.0, 0.0)];
        let mut kept = 0.0;
        // Rows that tie are sent together, in part.
        for step in 1..=steps {
            let part = |at: usize| at * rows.len() / steps;
            for row in &rows[part(step - 1)..part(step)] {
                kept += self.scores(*row)[strong] - self.scores(*row)[weak];
            }
            points.push((step as f64 / steps as f64, kept / total));
        }
        if way == Way::Random {
            points.iter_mut().for_each(|point| point.1 = point.0);
        }
        points
    }

    /// The least share of the bigger model at which no more than [`REGRET_MAX`] is lost against always asking it.
    fn share_needed(&self, way: Way) -> f64 {
        let allowed = REGRET_MAX / 4.0 / self.lead();
        let points = self.curve(way);
        // From the right: the last share at which the loss is still allowed.
        let mut share = 1.0;
        for pair in points.windows(2).rev() {
            let ((left, low), (right, high)) = (pair[0], pair[1]);
            if 1.0 - low > allowed {
                let needed = 1.0 - allowed;
                let part = if high > low {
                    (needed - low) / (high - low)
                } else {
                    1.0
                };
                return left + part.clamp(0.0, 1.0) * (right - left);
            }
            share = left;
        }
        share
    }

    pub(super) fn many(&self, into: &mut Evaluated) {
        self.many_row(&mut into.results);
        into.sections.push(self.many_section());
        into.sections.push(self.routes_section());
    }

    fn score(&self, way: Way) -> &[f64] {
        &self.tallies[way.place()].score
    }

    /// Part of the gap between the best single model and the oracle that a way closes.
    fn closed(&self, way: Way) -> Interval {
        let own = self.score(way);
        let (single, oracle) = (self.score(Way::BestSingle), self.score(Way::Oracle));
        self.groups.ratio(
            |row| own[row] - single[row],
            |row| oracle[row] - single[row],
        )
    }

    fn many_row(&self, results: &mut Results) {
        let name = &self.table.name;
        let own = ResultRow::interval(
            format!("{name}: oracle gap closed"),
            "share",
            self.closed(ROUTER),
        );
        let neighbours = self.closed(Way::Learner(TableLearner::Neighbours)).value;
        let own = own.goal(Goal::AtLeast(0.22)).against("kNN", neighbours);
        if own.met == Some(false) {
            results.notes.push(format!(
                "missed, {name}: oracle gap closed: the features are {}; a classifier of all words closes {:.3} on the same folds",
                self.features(),
                self.closed(Way::Words).value
            ));
        }
        results.rows.push(own);
    }

    fn many_section(&self) -> Section {
        let differs = |row: usize| {
            let scores = self.scores(row);
            f64::from(u8::from(scores.iter().any(|score| *score != scores[0])))
        };
        let row = |way: Way| {
            let (own, router) = (self.score(way), self.score(ROUTER));
            let gain = || self.groups.mean(|row| router[row] - own[row]);
            let [gain, found] = gained((way != ROUTER).then(gain));
            let where_differ = self.groups.ratio(|row| differs(row) * own[row], differs);
            vec![
                way.name().to_owned(),
                shown(&self.groups.mean(|row| own[row])),
                shown(&where_differ),
                shown(&self.closed(way)),
                gain,
                found,
            ]
        };
        Section {
            title: self.table.name.clone(),
            text: vec![format!(
                "{} models; the best single one is the best on the training rows. The gap is between it and the oracle, who asks a \
                 model that answers well whenever there is one.",
                self.table.models.len()
            )],
            columns: [
                "router",
                "mean score",
                "mean score where models differ",
                "oracle gap closed",
                "FastGRNN's gain over it",
                "FastGRNN is",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: WAYS.into_iter().map(row).collect(),
        }
    }

    fn routes_section(&self) -> Section {
        let routes = &self.tallies[ROUTER.place()].routes;
        let row = |model: &usize| {
            vec![
                self.table.models[*model].clone(),
                format!("{:.3}", self.mean_score(*model)),
                format!("{:.3}", routes[*model]),
            ]
        };
        Section {
            title: format!("{}: where the requests go", self.table.name),
            text: Vec::new(),
            columns: ["model", "mean score", "share of the FastGRNN"]
                .map(str::to_owned)
                .to_vec(),
            rows: self.order.iter().rev().map(row).collect(),
        }
    }
}

/// All ways but the best single model, which of two is always the bigger one.
fn ways_of_a_pair() -> impl Iterator<Item = Way> {
    WAYS.into_iter().filter(|way| *way != Way::BestSingle)
}

/// A table's name as part of the name of a file.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(plain).collect()
}
