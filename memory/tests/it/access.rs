//! Who may write and remove what, checked in the transaction that does it.

use weir_memory::{Access, Batch, NewEdge, NewNode, NodeId, SHARED_TENANT, WriteError};

use crate::open;

fn caller(tenant: &str, admin: bool) -> Access {
    Access {
        tenant: tenant.to_owned(),
        admin,
    }
}

fn nodes(nodes: Vec<NewNode>) -> Batch {
    Batch {
        nodes,
        edges: Vec::new(),
    }
}

fn edge(src: NodeId, dst: NodeId) -> Batch {
    Batch {
        nodes: Vec::new(),
        edges: vec![NewEdge::new(src, dst, "near")],
    }
}

#[test]
fn a_caller_changes_its_own_nodes_an_admin_all_and_nobody_else_any() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let (acme, globex, ops) = (
        caller("acme", false),
        caller("globex", false),
        caller("ops", true),
    );
    let own = NewNode::new("acme", "our pond");
    memory.write_as(&acme, &nodes(vec![own.clone()])).unwrap();
    let changed = NewNode {
        text: "our other pond".to_owned(),
        ..own.clone()
    };
    let refused = memory.write_as(&globex, &nodes(vec![changed.clone()]));
    assert!(matches!(refused, Err(WriteError::NeedsAdmin { .. })));
    let taken = NewNode {
        tenant: "globex".to_owned(),
        ..own.clone()
    };
    let good = NewNode::new("globex", "a good one");
    let refused = memory.write_as(&globex, &nodes(vec![good, taken]));
    assert!(matches!(refused, Err(WriteError::OtherTenant { id }) if id == own.id));
    assert_eq!(memory.counts().nodes, 1, "nothing of the batch was written");
    assert_eq!(memory.node(own.id).unwrap().unwrap().text, "our pond");
    memory.write_as(&ops, &nodes(vec![changed])).unwrap();

    assert!(
        !memory.delete_as(&globex, own.id).unwrap(),
        "not there for it"
    );
    assert!(memory.delete_as(&acme, own.id).unwrap());
    assert!(!memory.delete_as(&acme, own.id).unwrap());
}

#[test]
fn shared_nodes_are_read_by_all_and_changed_and_joined_by_admins() {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(folder.path());
    let (acme, globex, ops) = (
        caller("acme", false),
        caller("globex", false),
        caller("ops", true),
    );
    let shared = |text: &str| NewNode::new(SHARED_TENANT, text);
    let (first, second) = (shared("a weir"), shared("a heron"));
    let own = NewNode::new("acme", "our pond");
    let both = nodes(vec![first.clone(), second.clone()]);
    assert!(memory.write_as(&acme, &both).is_err());
    memory.write_as(&ops, &both).unwrap();
    memory.write_as(&acme, &nodes(vec![own.clone()])).unwrap();
    let refused = memory.delete_as(&acme, first.id);
    assert!(matches!(refused, Err(WriteError::OtherTenant { .. })));

    let between = edge(first.id, second.id);
    let refused = memory.write_as(&acme, &between);
    assert!(matches!(refused, Err(WriteError::SharedEdge { edge: 0 })));
    memory.write_as(&ops, &between).unwrap();
    memory.write_as(&acme, &edge(first.id, own.id)).unwrap();
    let refused = memory.write_as(&globex, &edge(first.id, own.id));
    assert!(
        matches!(refused, Err(WriteError::NotReadable { edge: 0, end: "dst", id }) if id == own.id)
    );
    assert_eq!(memory.counts().edges, 2);
}
