//! A summary or its sources: which of them a prompt shows.
//!
//! The sources say it in full and can be cited, so they are shown where all of them fit that were recalled and matter. Where they
//! do not, the summary takes the place of the best of them, as long as it is shorter than they are; what it saves is room for others.
//! A summary whose sources were not recalled is a candidate like others.

use std::collections::HashSet;

use super::{Candidate, Context};
use crate::node::NodeId;

/// Share of the best source's score from which on another one is missed where it does not fit.
const MATTERS: f32 = 0.5;

/// A page with these candidates, and which of them it has whole.
type Fill<'a> = dyn Fn(&[&Candidate]) -> (Context, HashSet<NodeId>) + 'a;

/// The page that shows each summary or its sources.
pub(super) fn settled(
    candidates: &[Candidate],
    count: &dyn Fn(&str) -> usize,
    fill: &Fill<'_>,
) -> Context {
    let recalled = |id: &NodeId| candidates.iter().any(|other| other.node.id == *id);
    let stands_for_some = |candidate: &&Candidate| candidate.summarises.iter().any(recalled);
    let (summaries, sources): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(stands_for_some);
    let (page, said) = fill(&sources);
    let mut stand_in: Vec<&Candidate> = Vec::new();
    let mut replaced: HashSet<NodeId> = HashSet::new();
    for summary in summaries {
        let open = |source: &&&Candidate| {
            let id = source.node.id;
            summary.summarises.contains(&id) && !replaced.contains(&id)
        };
        let open: Vec<&Candidate> = sources.iter().filter(open).copied().collect();
        let tokens: usize = open.iter().map(|source| count(&source.node.text)).sum();
        let least = open.first().map_or(0.0, |best| MATTERS * best.score);
        let mut matter = open.iter().filter(|source| source.score >= least);
        let fit = matter.all(|source| said.contains(&source.node.id));
        if !fit && count(&summary.node.text) < tokens {
            replaced.extend(open.iter().map(|source| source.node.id));
            stand_in.push(summary);
        }
    }
    if stand_in.is_empty() {
        return page;
    }
    let shown: Vec<&Candidate> = (candidates.iter())
        .filter_map(|candidate| {
            let stands_for = |summary: &&&Candidate| {
                summary.node.id == candidate.node.id
                    || summary.summarises.contains(&candidate.node.id)
            };
            match stand_in.iter().position(|summary| stands_for(&summary)) {
                // At the first place that it or one of its sources has.
                Some(at) => Some(stand_in.remove(at)),
                None if replaced.contains(&candidate.node.id) => None,
                None => sources
                    .iter()
                    .find(|source| source.node.id == candidate.node.id)
                    .copied(),
            }
        })
        .collect();
    fill(&shown).0
}
