//! The comparison as tables to read.

use super::{Found, Log, OTHERS, ablations};
use crate::evaluation::report::Section;
use crate::evaluation::{Groups, finding, gained, shown};
use crate::stats::mean;
use weir_router::train::compare::{Compared, Policy};
use weir_router::train::{Episode, TrainOptions, Worth};

impl Found<'_> {
    pub(super) fn policies(&self) -> Section {
        let row = |policy: Policy| {
            let own = self.worth(policy);
            let mean_of = |value: fn(&Worth) -> f64| shown(&self.groups.mean(|q| value(&own[q])));
            let utility = self.groups.mean(|q| self.utility(policy, q));
            let compared = policy != Policy::FastGrnn;
            let [gain, said] = gained(compared.then(|| self.gain_over(policy)));
            let near = self.of(policy).near_oracle;
            vec![
                policy.to_string(),
                mean_of(|worth| worth.quality),
                mean_of(|worth| worth.latency_s),
                shown(&utility),
                shown(&self.regret(policy)),
                shown(&self.speed_up_of(policy)),
                format!("{:.3}", self.of(policy).asked_again),
                near.map_or(String::new(), |share| format!("{share:.3}")),
                gain,
                said,
            ]
        };
        Section {
            title: "On the ladder".to_owned(),
            text: vec![
                "Held-out questions; quality from 1 to 5, doubly robust, seconds with first tries charged. kNN, ridge, MLP and \
                 FastGRNN see the same features; kNN and ridge have no verdict. The last two columns are the FastGRNN's \
                 utility less the row's. The oracle is the best of the arms tried on a question, which flatters it."
                    .to_owned(),
            ],
            columns: [
                "policy",
                "quality",
                "seconds",
                "utility",
                "quality_regret",
                "speed-up against fixed mid",
                "asked again",
                "near the best arm tried",
                "FastGRNN's gain over it",
                "FastGRNN is",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: OTHERS.into_iter().map(row).collect(),
        }
    }

    pub(super) fn where_models_differ(&self, episodes: &[Episode]) -> Section {
        let differs = |episode: &Episode| {
            let first = episode.outcomes.first().map(|outcome| outcome.quality);
            let mut others = episode.outcomes.iter();
            others.any(|outcome| Some(outcome.quality) != first)
        };
        let differ: Vec<f64> = episodes
            .iter()
            .map(|episode| f64::from(u8::from(differs(episode))))
            .collect();
        let count: f64 = differ.iter().sum();
        let row = |policy: Policy| {
            let mean_of = |value: &dyn Fn(usize) -> f64| {
                self.groups.ratio(|q| differ[q] * value(q), |q| differ[q])
            };
            let gain = mean_of(&|q| self.utility(Policy::FastGrnn, q) - self.utility(policy, q));
            vec![
                policy.to_string(),
                shown(&mean_of(&|q| self.worth(policy)[q].quality)),
                shown(&mean_of(&|q| self.utility(policy, q))),
                shown(&gain),
                finding(&gain).to_owned(),
            ]
        };
        let rows = OTHERS
            .into_iter()
            .filter(|policy| *policy != Policy::FastGrnn);
        Section {
            title: "Where the arms differ".to_owned(),
            text: vec![format!(
                "The {count} of {} questions on which the arms tried were not all equally good.",
                differ.len()
            )],
            columns: [
                "policy",
                "quality",
                "utility",
                "FastGRNN's gain over it",
                "FastGRNN is",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: rows.map(row).collect(),
        }
    }

    pub(super) fn ablations(&self) -> Section {
        let row = |policy: Policy| {
            let gain = self.gain_over(policy);
            vec![
                policy.to_string(),
                shown(&self.groups.mean(|q| self.utility(policy, q))),
                shown(&gain),
                finding(&gain).to_owned(),
            ]
        };
        Section {
            title: "Ablations".to_owned(),
            text: vec![
                "What the router gains over itself without a part. The mission's loss is cross entropy on the best model with \
                 regressions of context, temperature and top_p, taught from clear to ambiguous margins; its two sampling \
                 numbers do not change what an arm is worth here, since arms are valued over both sampling classes."
                    .to_owned(),
            ],
            columns: ["router", "utility", "the full router's gain over it", "the full router is"]
                .map(str::to_owned)
                .to_vec(),
            rows: ablations().into_iter().map(row).collect(),
        }
    }

    pub(super) fn routes(&self, log: &Log<'_>) -> Section {
        let listed = [
            Policy::FastGrnn,
            Policy::Perceptron,
            Policy::Neighbours,
            Policy::Ridge,
            Policy::Mission,
        ];
        let arms = log.design.arms.arms.iter().enumerate();
        let used = arms.filter(|(arm, _)| listed.iter().any(|p| self.of(*p).routes[*arm] > 0.0));
        let row = |(index, arm): (usize, &weir_router::Arm)| {
            let share = |policy: &Policy| format!("{:.3}", self.of(*policy).routes[index]);
            [arm.to_string()]
                .into_iter()
                .chain(listed.iter().map(share))
                .collect()
        };
        Section {
            title: "Where the requests go".to_owned(),
            text: vec![format!("Ranks are {}.", ranks(&log.design.models))],
            columns: ["arm".to_owned()]
                .into_iter()
                .chain(listed.iter().map(ToString::to_string))
                .collect(),
            rows: used.map(row).collect(),
        }
    }

    pub(super) fn speed_up(&self) -> Section {
        let parts = self.of(Policy::FastGrnn).attributed_s;
        let own = self.worth(Policy::FastGrnn).iter();
        let routed = mean(&own.map(|worth| worth.latency_s).collect::<Vec<_>>());
        let row = |what: &str, seconds: f64, before: f64| {
            vec![
                what.to_owned(),
                format!("{seconds:.2}"),
                format!("{:.2}", before / seconds),
            ]
        };
        Section {
            title: "What makes it faster or slower".to_owned(),
            text: vec![
                "From the fixed middle model to the router, one part of the choice after the other, by the arms' mean seconds; \
                 the last row has second tries and what seconds really were. Answers from a cache are not in an outcome log."
                    .to_owned(),
            ],
            columns: ["", "seconds", "times faster than the row before"]
                .map(str::to_owned)
                .to_vec(),
            rows: vec![
                row("fixed mid", parts.fixed_mid, parts.fixed_mid),
                row("its model chosen", parts.model, parts.fixed_mid),
                row("its context chosen", parts.context, parts.model),
                row("its recall chosen", parts.recall, parts.context),
                row("the router", routed, parts.recall),
            ],
        }
    }
}

fn ranks(models: &[String]) -> String {
    let named = models.iter().enumerate();
    let named = named.map(|(rank, model)| format!("{rank} {model}"));
    named.collect::<Vec<_>>().join(", ")
}

/// Trained without a kind of question, decided on it.
pub(super) fn leave_one_out(
    families: &[String],
    compared: &[Compared],
    options: &TrainOptions,
) -> Section {
    let mut names: Vec<&String> = families.iter().collect();
    names.sort_unstable();
    names.dedup();
    let row = |name: &&String| {
        let questions: Vec<usize> = (0..families.len())
            .filter(|question| families[*question] == **name)
            .collect();
        // Within a kind there is no further source to keep together.
        let each = questions
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        let groups = Groups::new(&each);
        let utility = |one: &Compared, at: usize| one.worth[0][questions[at]].utility(options);
        let gains = compared[1..].iter().map(|other| {
            let gain = groups.mean(|at| utility(&compared[0], at) - utility(other, at));
            format!("{} {}", shown(&gain), finding(&gain))
        });
        let own = groups.mean(|at| utility(&compared[0], at));
        [(*name).clone(), questions.len().to_string(), shown(&own)]
            .into_iter()
            .chain(gains)
            .collect()
    };
    let columns = ["left out", "questions", "FastGRNN's utility"].map(str::to_owned);
    let gains = compared[1..]
        .iter()
        .map(|other| format!("its gain over {}", other.policy));
    Section {
        title: "One kind of question left out".to_owned(),
        text: vec![
            "Trained on the other kinds only: what the router is worth on questions unlike those it knows.".to_owned(),
        ],
        columns: columns.into_iter().chain(gains).collect(),
        rows: names.iter().map(row).collect(),
    }
}
