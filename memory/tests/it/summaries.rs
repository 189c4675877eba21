//! A summary follows its sources: it goes in the write in which one of them changes or goes, and is seen by whom they are.

use weir_memory::context::{Candidate, assemble, overlapping, says_no_more};
use weir_memory::upkeep::{ImportOptions, PrunePolicy};
use weir_memory::{
    Batch, EdgeMetadata, Filter, Memory, Metadata, NewEdge, NewNode, Node, NodeId, NodeType,
    SHARED_TENANT, SUMMARISES, WriteError,
};

use crate::{id, node, open};

fn summary(name: &str, text: &str) -> NewNode {
    NewNode {
        node_type: NodeType::Summary,
        ..node(name, text)
    }
}

fn made_from(memory: &Memory, name: &str, source: &str) -> NewEdge {
    NewEdge {
        metadata: EdgeMetadata {
            source_digest: memory.node(id(source)).unwrap().map(|node| node.digest()),
            ..EdgeMetadata::default()
        },
        ..NewEdge::new(id(name), id(source), SUMMARISES)
    }
}

fn write(memory: &Memory, nodes: Vec<NewNode>, edges: Vec<NewEdge>) -> Result<(), WriteError> {
    memory.write(&Batch { nodes, edges }).map(|_| ())
}

fn is_there(memory: &Memory, name: &str) -> bool {
    memory.node(id(name)).unwrap().is_some()
}

/// Three passages, a summary of two of them, and a summary of that one and the third.
fn birds(memory: &Memory) {
    let passages = vec![
        node("heron", "the heron fishes at dawn"),
        node("reeds", "reeds grow along the pond"),
        node("bees", "bees swarm in may"),
    ];
    write(memory, passages, Vec::new()).unwrap();
    let edges = vec![
        made_from(memory, "pond", "heron"),
        made_from(memory, "pond", "reeds"),
    ];
    write(memory, vec![summary("pond", "heron and reeds")], edges).unwrap();
    let edges = vec![
        made_from(memory, "all", "pond"),
        made_from(memory, "all", "bees"),
    ];
    write(memory, vec![summary("all", "birds, reeds, bees")], edges).unwrap();
}

fn world() -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    birds(&memory);
    (folder, memory)
}

#[test]
fn a_summary_goes_in_the_write_in_which_a_source_changes_or_goes() {
    type Change = fn(&Memory);
    let changes: [(&str, Change); 4] = [
        ("text", |memory| {
            write(memory, vec![node("reeds", "reeds are cut")], Vec::new()).unwrap();
        }),
        ("domain", |memory| {
            let metadata = Metadata {
                domain: Some("ponds".to_owned()),
                ..Metadata::default()
            };
            let elsewhere = NewNode {
                metadata,
                ..node("reeds", "reeds grow along the pond")
            };
            write(memory, vec![elsewhere], Vec::new()).unwrap();
        }),
        ("tenant", |memory| {
            let given = NewNode {
                tenant: "globex".to_owned(),
                ..node("reeds", "reeds grow along the pond")
            };
            write(memory, vec![given], Vec::new()).unwrap();
        }),
        ("removal", |memory| {
            assert!(memory.delete(id("reeds")).unwrap());
        }),
    ];
    for (what, change) in changes {
        let (folder, memory) = world();
        let before = memory.generation();
        change(&memory);
        assert_eq!(memory.generation(), before + 1, "{what}: one write");
        for gone in ["pond", "all"] {
            assert!(!is_there(&memory, gone), "{what}: {gone}");
        }
        assert!(is_there(&memory, "heron") && is_there(&memory, "bees"));
        assert_eq!(memory.summaries(), 0, "{what}");
        drop(memory);
        let memory = open(folder.path());
        assert!(!is_there(&memory, "pond"), "{what}: after a restart");
        let diagnosis = memory.doctor(false).unwrap();
        assert!(!diagnosis.is_wrong(), "{what}: {diagnosis:?}");
    }
}

#[test]
fn what_does_not_change_a_source_lets_its_summaries_stay() {
    let (_folder, memory) = world();
    write(
        &memory,
        vec![node("heron", "the heron fishes at dawn")],
        Vec::new(),
    )
    .unwrap();
    let near = NewEdge::new(id("heron"), id("bees"), "near");
    write(&memory, Vec::new(), vec![near]).unwrap();
    memory
        .set_vectors(&[(id("heron"), vec![1.0, 0.0, 0.0, 0.0])])
        .unwrap();
    assert!(is_there(&memory, "pond") && is_there(&memory, "all"));
    let stale = memory.doctor(false).unwrap();
    assert!(
        !stale.is_wrong(),
        "an edge at a source is no change of it: {stale:?}"
    );
}

#[test]
fn summaries_leave_the_stamps_of_their_sources_alone() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    write(
        &memory,
        vec![node("heron", "the heron fishes at dawn")],
        Vec::new(),
    )
    .unwrap();
    let stamp = |memory: &Memory| memory.node(id("heron")).unwrap().unwrap().stamp;
    let before = stamp(&memory);
    let edge = made_from(&memory, "one", "heron");
    write(&memory, vec![summary("one", "a heron")], vec![edge]).unwrap();
    assert_eq!(stamp(&memory), before);
    assert!(memory.delete(id("one")).unwrap());
    assert_eq!(stamp(&memory), before);
}

#[test]
fn a_summary_that_comes_with_its_changed_source_stays() {
    let (_folder, memory) = world();
    let nodes = vec![
        summary("pond", "heron and cut reeds"),
        node("reeds", "reeds are cut"),
    ];
    write(&memory, nodes, Vec::new()).unwrap();
    assert!(is_there(&memory, "pond"));
    assert!(!is_there(&memory, "all"), "it was made from the former one");
}

#[test]
fn a_summary_of_what_a_source_said_before_is_refused_whole() {
    let (_folder, memory) = world();
    let edges = vec![
        made_from(&memory, "late", "bees"),
        made_from(&memory, "late", "heron"),
    ];
    write(
        &memory,
        vec![node("heron", "the heron is gone")],
        Vec::new(),
    )
    .unwrap();
    let refused = write(&memory, vec![summary("late", "bees, heron")], edges.clone());
    let made_from = id("heron");
    assert!(
        matches!(&refused, Err(WriteError::SourceChanged { made_from: from, .. }) if *from == made_from),
        "{refused:?}"
    );
    assert!(!is_there(&memory, "late"), "nothing of it is written");
    assert!(memory.delete(id("heron")).unwrap());
    let refused = write(&memory, vec![summary("late", "bees, heron")], edges);
    assert!(matches!(refused, Err(WriteError::UnknownNode { .. })));
}

#[test]
fn a_summary_belongs_to_a_tenant_that_may_read_its_sources() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let of = |tenant: &str, node: NewNode| NewNode {
        tenant: tenant.to_owned(),
        ..node
    };
    let nodes = vec![
        of("acme", node("acme", "acme builds weirs")),
        of("globex", node("globex", "globex builds dams")),
        of(SHARED_TENANT, node("shared", "water flows")),
    ];
    write(&memory, nodes, Vec::new()).unwrap();
    for (tenant, source, allowed) in [
        ("acme", "acme", true),
        ("acme", "shared", true),
        ("acme", "globex", false),
        (SHARED_TENANT, "acme", false),
        (SHARED_TENANT, "shared", true),
    ] {
        let name = format!("{tenant} of {source}");
        let edge = NewEdge::new(id(&name), id(source), SUMMARISES);
        let written = write(&memory, vec![of(tenant, summary(&name, "it"))], vec![edge]);
        let refused = matches!(written, Err(WriteError::SummaryTenant { .. }));
        assert_eq!((written.is_ok(), refused), (allowed, !allowed), "{name}");
    }
}

#[test]
fn an_edge_of_that_name_from_another_node_takes_nothing_away() {
    let (_folder, memory) = world();
    let edge = NewEdge::new(id("bees"), id("heron"), SUMMARISES);
    write(&memory, Vec::new(), vec![edge]).unwrap();
    assert!(memory.delete(id("heron")).unwrap());
    assert!(is_there(&memory, "bees"));
}

#[test]
fn pruning_keeps_what_a_summary_was_made_from() {
    let (_folder, memory) = world();
    let near = |to: &str| NewEdge::new(id("heron"), id(to), "near");
    write(&memory, Vec::new(), vec![near("bees"), near("reeds")]).unwrap();
    let policy = PrunePolicy {
        degree_max: 0,
        min_weight: 5.0,
        ..PrunePolicy::default()
    };
    let mut pruning = memory.prune(policy, 1_800_000_000_000);
    while !pruning.step().unwrap() {}
    assert_eq!(memory.counts().edges, 4, "those of the two summaries");
    assert!(memory.delete(id("heron")).unwrap());
    assert!(!is_there(&memory, "pond"), "it still follows");
}

#[test]
fn an_export_is_read_in_over_sources_that_changed_with_its_summaries() {
    let (_folder, memory) = world();
    let mut export = Vec::new();
    memory.export(&mut export, &mut |_| {}).unwrap();
    let text = String::from_utf8(export.clone()).unwrap();
    let nodes = text.lines().filter(|line| line.contains("\"node\""));
    let late = nodes.skip(3).filter(|line| line.contains("\"summary\""));
    assert_eq!(
        late.count(),
        2,
        "summaries come after what they were made from"
    );
    let changed = node("reeds", "reeds are cut");
    write(&memory, vec![changed], Vec::new()).unwrap();
    assert!(!is_there(&memory, "pond"));
    let imported = memory.import(
        &mut export.as_slice(),
        ImportOptions::default(),
        &mut |_| std::ops::ControlFlow::Continue(()),
    );
    imported.unwrap();
    assert!(is_there(&memory, "pond") && is_there(&memory, "all"));
    assert!(!memory.doctor(false).unwrap().is_wrong());
}

#[test]
fn a_summary_of_several_comes_along_with_them_where_it_may_be_seen() {
    let (_folder, memory) = world();
    let seen = |ids: &[&str], filter: &Filter| -> Vec<NodeId> {
        let ids: Vec<NodeId> = ids.iter().map(|name| id(name)).collect();
        let found = memory.summaries_among(&ids, filter);
        found.into_iter().map(|found| found.summary).collect()
    };
    let all = Filter {
        tenant: node("x", "x").tenant,
        ..Filter::default()
    };
    assert_eq!(seen(&["heron", "reeds"], &all), [id("pond")]);
    assert_eq!(
        seen(&["heron", "bees"], &all),
        [],
        "one of its sources is not several"
    );
    assert_eq!(seen(&["pond"], &all), [id("pond")], "it was found itself");
    let documents = Filter {
        types: vec![NodeType::Doc],
        ..all.clone()
    };
    assert_eq!(seen(&["heron", "reeds"], &documents), []);
    let hidden = Filter {
        hidden: vec![id("reeds")],
        ..all.clone()
    };
    assert_eq!(seen(&["heron", "reeds"], &hidden), []);
    let elsewhere = Filter {
        tenant: "globex".to_owned(),
        ..all
    };
    assert_eq!(seen(&["heron", "reeds"], &elsewhere), []);
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn candidate(name: &str, text: &str, score: f32) -> Candidate {
    let new = node(name, text);
    let node = Node {
        id: new.id,
        tenant: new.tenant,
        text: new.text,
        node_type: new.node_type,
        source: new.source,
        metadata: new.metadata,
        stamp: 1,
    };
    Candidate::new(node, score)
}

fn standing_for(name: &str, text: &str, score: f32, sources: &[&str]) -> Candidate {
    let mut summary = candidate(name, text, score);
    summary.node.node_type = NodeType::Summary;
    summary.summarises = sources.iter().map(|name| id(name)).collect();
    summary
}

fn shown(candidates: &[Candidate], budget: usize) -> Vec<NodeId> {
    let context = assemble(candidates, budget, &words);
    assert!(context.tokens <= budget);
    context.blocks.iter().map(|block| block.id).collect()
}

const HERON: &str =
    "The heron of the pond fishes at dawn, when the water is still and the frogs are loud.";
const STORK: &str =
    "The stork of the meadow hunts at noon, when the grass is dry and the mice are slow.";
const BOTH: &str = "Heron and stork hunt at dawn and noon.";
const BEES: &str = "Bees swarm in may.";

#[test]
fn a_prompt_shows_the_sources_where_they_fit_and_the_summary_where_they_do_not() {
    let candidates = [
        candidate("heron", HERON, 1.0),
        standing_for("both", BOTH, 0.9, &["heron", "stork"]),
        candidate("stork", STORK, 0.8),
        candidate("bees", BEES, 0.2),
    ];
    assert_eq!(
        shown(&candidates, 200),
        [id("heron"), id("stork"), id("bees")]
    );
    let narrow = shown(&candidates, 40);
    assert_eq!(
        narrow,
        [id("both"), id("bees")],
        "and there is room for others"
    );
    let context = assemble(&candidates, 40, &words);
    assert!(context.text.contains("type=summary"), "{}", context.text);
    assert_eq!(context.blocks[0].summarises, [id("heron"), id("stork")]);
}

#[test]
fn a_source_that_hardly_matters_is_not_missed() {
    let candidates = [
        candidate("heron", HERON, 1.0),
        standing_for("both", BOTH, 0.9, &["heron", "stork"]),
        candidate("stork", STORK, 0.3),
    ];
    assert_eq!(shown(&candidates, 36), [id("heron"), id("stork")][..1]);
}

#[test]
fn a_summary_that_saves_nothing_stands_for_nothing() {
    let long = [HERON, STORK, BEES].join(" ");
    let candidates = [
        standing_for("both", &long, 1.0, &["heron", "stork"]),
        candidate("heron", HERON, 0.9),
        candidate("stork", STORK, 0.8),
    ];
    assert_eq!(shown(&candidates, 36), [id("heron")]);
}

#[test]
fn a_summary_whose_sources_were_not_recalled_is_a_candidate_like_others() {
    let candidates = [
        standing_for("both", BOTH, 1.0, &["heron", "stork"]),
        candidate("bees", BEES, 0.9),
    ];
    assert_eq!(shown(&candidates, 100), [id("both"), id("bees")]);
}

#[test]
fn nodes_overlap_that_share_words_within_one_tenant_and_domain() {
    let one = candidate("one", "The heron fishes at dawn in the shallow pond.", 1.0);
    let two = candidate("two", "At dawn a heron fishes; the pond is shallow.", 0.8);
    let bees = candidate("bees", BEES, 0.9);
    let group = |candidates: &[Candidate], least: f32| -> Vec<NodeId> {
        let found = overlapping(candidates, least);
        found.iter().map(|candidate| candidate.node.id).collect()
    };
    let all = [one.clone(), bees.clone(), two.clone()];
    assert_eq!(group(&all, 0.2), [id("one"), id("two")]);
    assert_eq!(group(&all, 0.85), [], "too little attention");
    assert_eq!(group(&[one.clone(), bees], 0.2), []);
    let mut elsewhere = two.clone();
    elsewhere.node.tenant = "globex".to_owned();
    assert_eq!(group(&[one.clone(), elsewhere], 0.2), []);
    let mut elsewhere = two.clone();
    elsewhere.node.metadata.domain = Some("law".to_owned());
    assert_eq!(group(&[one.clone(), elsewhere], 0.2), []);
    let mut trace = two.clone();
    trace.node.node_type = NodeType::Trace;
    assert_eq!(
        group(&[one.clone(), trace], 0.2),
        [],
        "an answer is no fact"
    );
    let known = standing_for("known", "heron, dawn, pond", 0.5, &["one", "two"]);
    assert_eq!(
        group(&[one, two, known], 0.2),
        [],
        "it is summarised already"
    );
}

#[test]
fn a_summary_says_no_more_than_its_sources() {
    let sources = [HERON, STORK];
    assert!(says_no_more(
        "The heron fishes at dawn and the stork hunts at noon.",
        &sources
    ));
    assert!(
        !says_no_more("The heron fishes at dawn, 300 frogs a year.", &sources),
        "a number"
    );
    assert!(!says_no_more(
        "Elephants march through burning cities.",
        &sources
    ));
    assert!(!says_no_more("", &sources));
}
