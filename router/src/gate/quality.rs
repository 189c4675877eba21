//! What the judged answers decide: rollback, promotion, or what is still missing.

use super::regret::RegretEvidence;
use super::{DISAGREEMENTS_MIN, Policy, Reason, Test};

/// Share of the disagreements whose labels may be on their way, or lost, while the others decide.
const UNJUDGED_MAX: f64 = 0.2;
/// Standard deviations by which labels that were drawn may stand for another number of disagreements than there are.
const DEVIATIONS: f64 = 4.0;

/// Whether the last step ends with a promotion.
pub(super) enum Promotes {
    Yes,
    /// What is missing.
    NotYet(String),
    /// There is enough evidence to stop waiting, and it does not decide.
    Undecided(String),
}

/// One test for each baseline, of all steps together.
pub(super) fn tested(policy: &Policy, regret: &[RegretEvidence]) -> Vec<Test> {
    let Some(quality) = &policy.quality else {
        return Vec::new();
    };
    let planned = policy.planned(quality);
    let known = regret.iter().enumerate();
    let known =
        known.filter(|(_, of)| of.labelled >= DISAGREEMENTS_MIN && ill_judged(of).is_none());
    known
        .map(|(index, of)| Test {
            against: of.against_at_most(quality.regret_max, planned),
            ln_threshold: policy.ln_regret_threshold(regret.len()),
            reason: Reason::Regret,
            message: format!(
                "the candidate's answers are worth {:.3} points less than those of {}, by {} labelled disagreements in \
                 {} requests; {} is allowed",
                of.regret(),
                baseline(index),
                of.labelled,
                of.compared,
                quality.regret_max
            ),
        })
        .collect()
}

/// Labelled disagreements that the step still needs. They are counted from the beginning, since all steps are one
/// evidence.
pub(super) fn missing(policy: &Policy, step: usize, regret: &[RegretEvidence]) -> Option<String> {
    let quality = policy.quality.as_ref()?;
    let needed = quality.disagreements_per_step.max(DISAGREEMENTS_MIN) * step as u64;
    let have = labelled(regret);
    if have < needed {
        return Some(format!("{have} of {needed} labelled disagreements"));
    }
    regret.iter().find_map(ill_judged)
}

/// What is wrong with labels that do not stand for the disagreements there were: whoever gave them has chosen.
fn ill_judged(of: &RegretEvidence) -> Option<String> {
    let (share, deviation) = of.share_judged()?;
    let allowed = UNJUDGED_MAX + DEVIATIONS * deviation;
    ((share - 1.0).abs() > allowed).then(|| {
        format!(
            "the labels stand for {:.0} % of {} disagreements: judge all of them, or send with each label the probability \
             with which it was picked",
            share * 100.0,
            of.disagreements
        )
    })
}

/// Whether the regret against every baseline is known to be within the limit.
pub(super) fn promotes(policy: &Policy, regret: &[RegretEvidence]) -> Promotes {
    let Some(quality) = &policy.quality else {
        return Promotes::Yes;
    };
    if regret.is_empty() {
        return Promotes::NotYet("nothing is known of the candidate's answers".to_owned());
    }
    let ln_threshold = -(1.0 - policy.confidence).ln();
    let planned = policy.planned(quality);
    let within = |of: &RegretEvidence| {
        of.against_at_least(quality.regret_max, planned)
            .decides(ln_threshold)
    };
    let Some(open) = regret.iter().position(|of| !within(of)) else {
        return Promotes::Yes;
    };
    let message = format!(
        "the regret against {} is {:.3} by {} labelled disagreements, and not yet known to be at most {}: more of them \
         would tell",
        baseline(open),
        regret[open].regret(),
        labelled(regret),
        quality.regret_max
    );
    if labelled(regret) < quality.disagreements_max {
        Promotes::NotYet(message)
    } else {
        Promotes::Undecided(message)
    }
}

fn labelled(regret: &[RegretEvidence]) -> u64 {
    regret.first().map_or(0, |of| of.labelled)
}

fn baseline(index: usize) -> &'static str {
    if index == 0 {
        "the active version"
    } else {
        "the reference"
    }
}
