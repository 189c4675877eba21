//! What is sent is what is read.

use super::*;
use crate::calls::MemoryError;
use weir_memory::{
    EdgeMetadata, Filter, Hit, Metadata, NewEdge, NewNode, NodeSource, NodeType, Recalled,
};

fn node(number: u128, text: &str) -> Node {
    Node {
        id: NodeId::from_u128(number),
        tenant: "acme".to_owned(),
        text: text.to_owned(),
        node_type: NodeType::ToolResult,
        source: NodeSource::Agent,
        metadata: Metadata {
            timestamp: Some(7),
            tags: vec!["a".to_owned()],
            language: Some("en".to_owned()),
            domain: Some("birds".to_owned()),
            version: Some("3".to_owned()),
            score: Some(0.5),
            subject: Some("heron".to_owned()),
            title: Some("Heron".to_owned()),
            uri: Some("birds.md#heron".to_owned()),
        },
        stamp: 9,
    }
}

fn candidate(number: u128, score: f32) -> Candidate {
    let node = node(number, "The heron fishes at dawn.");
    Candidate {
        node,
        score,
        summarises: vec![NodeId::from_u128(number + 100)],
    }
}

#[test]
fn a_recollection_is_read_as_it_was_and_a_node_of_both_lists_travels_once() {
    let id = NodeId::from_u128;
    let hit = |number, cosine| Hit {
        id: id(number),
        cosine,
        bm25: Some(1.5),
        strength: 0.25,
    };
    let recalled = |number, depth| Recalled {
        id: id(number),
        score: 0.75,
        cosine: None,
        depth,
    };
    let given = Recollection {
        vector: Some(Arc::from([0.5, -0.5])),
        found: Some((
            SearchResult {
                hits: vec![hit(1, Some(0.5)), hit(2, None), hit(3, None)],
                filter_share: 0.5,
            },
            vec![candidate(1, 0.9), candidate(2, 0.8)],
        )),
        attended: Some((
            Recall {
                nodes: vec![recalled(2, 0), recalled(4, 1)],
                entropy: 0.4,
                depth: 1,
                nodes_used: 70,
            },
            vec![candidate(2, 1.0), candidate(4, 0.5)],
        )),
        generation: 12,
        spent: Spent {
            embed: 1.0,
            search: 2.0,
            attend: 3.0,
        },
    };
    let sent = recollection(given.clone());
    assert_eq!(sent.nodes.len(), 3);
    assert_eq!(read_recollection(sent), Ok(given));
}

#[test]
fn questions_searches_and_writes_are_read_as_they_were() {
    let filter = Filter {
        tenant: "acme".to_owned(),
        domains: vec!["birds".to_owned()],
        types: vec![NodeType::Trace, NodeType::Summary],
        hidden: Vec::new(),
    };
    let limits = RecallLimits {
        seeds: 3,
        hops: 1,
        nodes_max: 9,
    };
    let given = Asked {
        text: "When?".to_owned(),
        vector: Some(vec![1.0]),
        embed: true,
        wanted: Some(Wanted {
            filter: filter.clone(),
            limits,
            candidates: 24,
        }),
    };
    assert_eq!(asked(recall_request(given.clone())), Ok(given));
    let given = Sought {
        text: "When?".to_owned(),
        vector: None,
        embed: true,
        filter,
        k: 5,
    };
    let sent = attend_request(given.clone(), limits);
    assert_eq!(read_attend(sent), Ok((given, limits)));

    let Node {
        id,
        tenant,
        text,
        node_type,
        source,
        metadata,
        ..
    } = node(1, "text");
    let new = NewNode {
        id,
        tenant,
        text,
        node_type,
        source,
        metadata,
        vector: Some(vec![0.5, 0.25]),
    };
    let edge = NewEdge {
        weight: 0.5,
        metadata: EdgeMetadata {
            timestamp: Some(1),
            created_by: Some("ingest".to_owned()),
            confidence: Some(0.5),
            evidence: Some("Whales sing.".to_owned()),
            source_digest: Some("5d3c".to_owned()),
        },
        ..NewEdge::new(id, NodeId::from_u128(2), "cites")
    };
    let batch = Batch {
        nodes: vec![new],
        edges: vec![edge],
    };
    let access = Access {
        tenant: "acme".to_owned(),
        admin: true,
    };
    let sent = write_request(access.clone(), batch.clone());
    assert_eq!(read_write(sent), Ok((access, batch)));
}

#[test]
fn an_erasure_and_its_receipt_are_read_as_they_were() {
    let access = Access {
        tenant: "ops".to_owned(),
        admin: true,
    };
    for tenant in [None, Some("acme".to_owned())] {
        let asked = (access.clone(), "jane".to_owned(), tenant);
        let sent = erase_request(asked.0.clone(), asked.1.clone(), asked.2.clone());
        assert_eq!(read_erase(sent), Ok(asked));
    }
    let receipt = Erased {
        nodes: 1,
        summaries: 2,
        traces: 3,
        vectors: 4,
        edges: 5,
        documents: 6,
        ids: vec![NodeId::from_u128(7), NodeId::from_u128(u128::MAX)],
        generation: 8,
        erased_at: 9,
        recollections: 10,
    };
    assert_eq!(read_erased(&erased(&receipt)), Ok(receipt));
    let nobody = erase_request(access, String::new(), None);
    assert_eq!(read_erase(nobody), Err(BadMessage::missing("subject")));
}

#[test]
fn refusals_are_read_as_they_were() {
    for error in [
        MemoryError::Forbidden("not yours".to_owned()),
        MemoryError::Field {
            field: "edges[0].src".to_owned(),
            message: "unknown".to_owned(),
        },
        MemoryError::Refused("two dimensions".to_owned()),
        MemoryError::Full("no space is left".to_owned()),
        MemoryError::Away("starting".to_owned()),
        MemoryError::Late,
    ] {
        assert_eq!(error_of(&status_of(error.clone())), error);
    }
}

#[test]
fn an_answer_larger_than_a_message_leaves_the_last_nodes_out() {
    let megabyte = "x".repeat(1 << 20);
    let nodes: Vec<Node> = (0..40).map(|number| node(number, &megabyte)).collect();
    let sent = search_reply(Found {
        nodes,
        ..Found::default()
    });
    assert_eq!(sent.nodes.len(), NODE_BYTES_MAX >> 20);
}

#[test]
fn a_message_with_an_unknown_type_or_a_short_id_is_refused() {
    let mut sent = recall_request(Asked {
        text: String::new(),
        vector: None,
        embed: false,
        wanted: Some(Wanted {
            filter: Filter::default(),
            limits: RecallLimits::default(),
            candidates: 1,
        }),
    });
    let filter = sent
        .wanted
        .as_mut()
        .and_then(|wanted| wanted.filter.as_mut());
    filter.unwrap().types.push("dream".to_owned());
    assert!(matches!(asked(sent), Err(BadMessage::Name(_))));
    let sent = v1::DeleteNodeRequest {
        access: None,
        id: bytes::Bytes::from_static(b"short"),
    };
    assert_eq!(read_delete(sent), Err(BadMessage::Id(5)));
}
