//! The walk: which nodes a question's subgraph has, and the edges among them.
//!
//! Grows from the seeds along the heads that attention itself will use, so that the places go to
//! the nodes that its first layers would reach. What an edge or node looks like is `view.rs`.

use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::collections::HashSet;
use std::ops::Range;

use super::RecallLimits;
use super::view::View;
use crate::attention::{self, AttentionWeights, Edges, Shares, Subgraph, Wanted};
use crate::graph::Link;
use crate::index::Index;
use crate::node::NodeId;
use crate::search::{Hit, Prepared, Query, SearchResult};
use crate::slots::{SlotMap, SlotSet};

/// Links followed from one node in one hop, heaviest first: one index page must not fill the
/// subgraph.
pub(crate) const DEGREE_MAX: usize = 64;

/// Share of the free places that a hop may take when another hop follows.
const HOP_SHARE: f64 = 2.0 / 3.0;

/// A node of the subgraph; its place in the list is its local index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Where the index has it.
    pub(super) slot: u32,
    /// Hops from the nearest seed.
    pub(super) depth: u8,
    /// Its hit, when it is a seed.
    pub(super) hit: Option<Hit>,
}

/// What the walk may see.
pub(super) struct Walk<'a> {
    index: &'a Index,
    weights: &'a AttentionWeights,
    view: View<'a>,
    /// Whether the filter lets a slot through.
    mask: Cow<'a, [bool]>,
    excluded: HashSet<(u32, u32)>,
    /// Place of each relation when all are ordered by name: numbers differ after a reopening.
    ranks: Vec<u16>,
    /// See [`Walk::links_of`].
    walked: RefCell<Walked>,
}

/// A link, and whether it is walked forwards.
type Step = (Link, bool);

/// The place of a head among all: relation and direction.
type Place = (u16, bool);

/// The visible links of the slots that were walked from.
#[derive(Default)]
struct Walked {
    /// One slot's after the other's.
    steps: Vec<Step>,
    /// Where a slot's are.
    of: SlotMap<Range<usize>>,
}

impl<'a> Walk<'a> {
    /// With what was `prepared` for this question, where it still holds.
    pub(super) fn new(
        index: &'a Index,
        (query, prepared): (&'a Query, Option<&'a Prepared>),
        (weights, wanted): (&'a AttentionWeights, Wanted),
    ) -> Self {
        let mask = prepared.and_then(|prepared| prepared.mask(index, query));
        let slots = query.exclude_edges.iter();
        let pairs = slots.filter_map(|(a, b)| index.slot(*a).zip(index.slot(*b)));
        let excluded = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        Self {
            index,
            weights,
            view: View::new(index, query, wanted),
            mask: mask.map_or_else(|| index.allowed(&query.filter).mask.into(), Cow::from),
            excluded,
            ranks: ranks(index),
            walked: RefCell::default(),
        }
    }

    /// The node in a slot.
    pub(super) fn id(&self, slot: u32) -> NodeId {
        self.index.id(slot)
    }

    /// Cosine of a node to the question, when both have a vector.
    pub(super) fn cosine(&self, slot: u32) -> Option<f32> {
        self.view.cosine(slot)
    }

    /// The nodes of the subgraph, seeds first.
    pub(super) fn members(&self, found: &SearchResult, limits: &RecallLimits) -> Vec<Member> {
        let mut members = Vec::new();
        for hit in found.hits.iter().take(limits.seeds.min(limits.nodes_max)) {
            let Some(slot) = self.index.slot(hit.id) else {
                continue;
            };
            if self.mask[slot as usize] {
                let hit = Some(*hit);
                members.push(Member {
                    slot,
                    depth: 0,
                    hit,
                });
            }
        }
        let seeds = self.view.seeds(&members);
        let logits: Vec<f64> = (seeds.iter())
            .map(|seed| self.weights.seed_logit(seed))
            .collect();
        self.grow(&mut members, &attention::softmax(&logits), limits);
        members
    }

    /// Adds the nodes around `members`, hop by hop, those first that the heaviest paths lead to.
    fn grow(&self, members: &mut Vec<Member>, seeds: &[f64], limits: &RecallLimits) {
        let mut known: SlotSet = members.iter().map(|member| member.slot).collect();
        let slots = members.iter().map(|member| member.slot);
        let mut frontier: Vec<(u32, f64)> = slots.zip(seeds.iter().copied()).collect();
        for hop in 1..=limits.hops {
            let mut room = limits.nodes_max.saturating_sub(members.len());
            if hop < limits.hops {
                room = (room as f64 * HOP_SHARE).ceil() as usize;
            }
            frontier = self.reached(&frontier, &known, room);
            known.extend(frontier.iter().map(|(slot, _)| *slot));
            members.extend(frontier.iter().map(|(slot, _)| Member {
                slot: *slot,
                depth: hop,
                hit: None,
            }));
        }
    }

    /// The nodes one step from `frontier` that are not `known`, with the weight that comes to each, heaviest first, and at
    /// most `most` of them.
    fn reached(&self, frontier: &[(u32, f64)], known: &SlotSet, most: usize) -> Vec<(u32, f64)> {
        let mut build = Build::new(self.ranks.len());
        for (slot, _) in frontier {
            let links = self.links_of(*slot);
            if links.len() > DEGREE_MAX {
                let heaviest = self.heaviest(&links);
                self.push(&mut build, *slot, &heaviest, Some);
            } else {
                self.push(&mut build, *slot, &links, Some);
            }
        }
        let edges = build.finish(self.index);
        let shares = Shares::of(&edges, &self.weights.heads_of(&edges.heads));
        let mut reached: SlotMap<f64> = SlotMap::default();
        for (source, (_, weight)) in frontier.iter().enumerate() {
            for edge in edges.edges_of(source) {
                let to = edges.targets[edge];
                if !known.contains(&to) {
                    *reached.entry(to).or_default() += weight * shares.edges[edge];
                }
            }
        }
        let mut reached: Vec<(u32, f64)> = reached.into_iter().collect();
        let heavier = |a: &(u32, f64), b: &(u32, f64)| {
            let by_weight = b.1.total_cmp(&a.1);
            by_weight.then_with(|| self.id(a.0).cmp(&self.id(b.0)))
        };
        if most < reached.len() {
            reached.select_nth_unstable_by(most, heavier);
            reached.truncate(most);
        }
        reached.sort_unstable_by(heavier);
        reached
    }

    /// The links that are looked at where there are too many, in the order of [`Walk::links_of`].
    fn heaviest(&self, links: &[Step]) -> Vec<Step> {
        let mut heaviest = links.to_vec();
        heaviest.sort_by(|(a, _), (b, _)| {
            let damped = self.damped(b).total_cmp(&self.damped(a));
            damped.then_with(|| self.id(a.to).cmp(&self.id(b.to)))
        });
        heaviest.truncate(DEGREE_MAX);
        heaviest.sort_by_key(|step| self.place(step));
        heaviest
    }

    /// Weight of a link with hubs damped: which of too many links are looked at.
    fn damped(&self, link: &Link) -> f64 {
        f64::from(link.weight) / (self.index.graph.degree(link.to) as f64).sqrt()
    }

    /// The visible links at a node, by relation and direction. Most nodes are walked from twice: to find what is around them, and
    /// among what was found.
    fn links_of(&self, slot: u32) -> Ref<'_, [Step]> {
        let known = self.walked.borrow().of.get(&slot).cloned();
        let range = known.unwrap_or_else(|| self.walk_from(slot));
        Ref::map(self.walked.borrow(), |walked| &walked.steps[range])
    }

    fn walk_from(&self, slot: u32) -> Range<usize> {
        let Walked { steps, of } = &mut *self.walked.borrow_mut();
        let first = steps.len();
        steps.extend(self.links(slot));
        steps[first..].sort_unstable_by_key(|step| self.place(step));
        let range = first..steps.len();
        of.insert(slot, range.clone());
        range
    }

    fn place(&self, (link, forwards): &Step) -> Place {
        let rank = self.ranks[usize::from(link.rel)];
        (rank, *forwards)
    }

    /// The visible links at a node.
    fn links(&self, slot: u32) -> impl Iterator<Item = Step> {
        let graph = &self.index.graph;
        let outgoing = graph.outgoing(slot).iter().map(|link| (*link, true));
        let incoming = graph.incoming(slot).iter().map(|link| (*link, false));
        outgoing.chain(incoming).filter(move |(link, _)| {
            self.mask[link.to as usize]
                && link.to != slot
                && !self.excluded.contains(&(slot, link.to))
        })
    }

    /// Adds those links of a node that have a target.
    fn push(
        &self,
        build: &mut Build,
        from: u32,
        links: &[Step],
        target: impl Fn(u32) -> Option<u32>,
    ) {
        build.edges.reserve(links.len());
        for (link, forwards) in links {
            if let Some(to) = target(link.to) {
                let head = build.head(link.rel, *forwards);
                let features = self.view.edge(from, link, *forwards);
                build.edges.push(head, to, features);
            }
        }
        build.edges.end_source();
    }

    /// Everything that attention needs to know about `members`.
    pub(super) fn subgraph(&self, members: &[Member]) -> Subgraph {
        let slots = members.iter().map(|member| member.slot);
        let local: SlotMap<u32> = slots.zip(0..).collect();
        let mut build = Build::new(self.ranks.len());
        for member in members {
            let target = |slot: u32| local.get(&slot).copied();
            self.push(&mut build, member.slot, &self.links_of(member.slot), target);
        }
        let edges = build.finish(self.index);
        let mut nodes = self.view.nodes(members);
        self.view.lead_from_named(&edges, &mut nodes);
        Subgraph {
            seeds: self.view.seeds(members),
            nodes,
            edges,
        }
    }
}

/// The place of each relation by name.
fn ranks(index: &Index) -> Vec<u16> {
    let count = index.graph.relations();
    let name = |rel: &u16| index.graph.relation_name(*rel);
    let mut order: Vec<u16> = (0..=u16::MAX).take(count).collect();
    order.sort_by(|a, b| name(a).cmp(name(b)));
    let mut ranks = vec![0; count];
    for (rank, rel) in (0..).zip(order) {
        ranks[usize::from(rel)] = rank;
    }
    ranks
}

/// Edges in the making, with numbers for the heads that occur, in the order of their first use.
struct Build {
    edges: Edges,
    places: Vec<Option<usize>>,
    used: Vec<(u16, bool)>,
}

impl Build {
    fn new(relations: usize) -> Self {
        Self {
            edges: Edges::new(),
            places: vec![None; 2 * relations],
            used: Vec::new(),
        }
    }

    fn head(&mut self, rel: u16, forwards: bool) -> usize {
        let place = &mut self.places[2 * usize::from(rel) + usize::from(forwards)];
        *place.get_or_insert_with(|| {
            self.used.push((rel, forwards));
            self.used.len() - 1
        })
    }

    fn finish(mut self, index: &Index) -> Edges {
        let name = |rel: u16| index.graph.relation_name(rel).to_owned();
        let used = self.used.into_iter();
        self.edges.heads = used.map(|(rel, way)| (name(rel), way)).collect();
        self.edges
    }
}
