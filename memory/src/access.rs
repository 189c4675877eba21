//! Who may read and change what: the one place where a caller's tenant meets a node's.
//!
//! A caller reads its own tenant's nodes and shared ones and changes its own; an admin does both with all. Owns the rule
//! only: `store/transaction.rs` asks it inside the transaction that writes, so that no other write comes between the
//! check and what was checked.

use crate::node::{Node, SHARED_TENANT};

/// A caller, as whoever authenticated it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose nodes it reads and writes.
    pub tenant: String,
    /// Whether it may read and change every tenant's nodes.
    pub admin: bool,
}

impl Access {
    /// Whether the caller may know that the node exists.
    pub fn may_read(&self, node: &Node) -> bool {
        node.tenant == SHARED_TENANT || self.may_change(&node.tenant)
    }

    /// Whether the caller may write and remove nodes of `tenant`.
    pub fn may_change(&self, tenant: &str) -> bool {
        self.admin || self.tenant == tenant
    }
}
