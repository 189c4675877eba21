//! Who may read and change what: the one place where a caller's tenant meets a node's.
//!
//! A caller reads its own tenant's nodes and shared ones and changes its own; an admin does both with all. Owns the rule
//! only: a store asks it inside the transaction that writes, so that no other write comes between the check and what was
//! checked.

use crate::node::{NewEdge, NewNode, Node, NodeId, SHARED_TENANT};
use crate::store::WriteError;

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

    /// Whether the caller may remove the node that is stored under `id`. False where it may not know of it, which is then
    /// not there for it.
    ///
    /// # Errors
    /// It may read the node and not change it.
    pub fn may_remove(&self, id: NodeId, stored: Option<&Node>) -> Result<bool, WriteError> {
        match stored.filter(|node| self.may_read(node)) {
            Some(node) if self.may_change(&node.tenant) => Ok(true),
            Some(_) => Err(WriteError::OtherTenant { id }),
            None => Ok(false),
        }
    }

    /// Neither another tenant's node may be replaced, nor one be given to another tenant.
    ///
    /// # Errors
    /// What the caller may not.
    pub fn check_put(&self, new: &NewNode, stored: Option<&Node>) -> Result<(), WriteError> {
        if !self.may_change(&new.tenant) {
            let tenant = new.tenant.clone();
            return Err(WriteError::NeedsAdmin { tenant });
        }
        match stored {
            Some(before) if !self.may_change(&before.tenant) => {
                Err(WriteError::OtherTenant { id: new.id })
            }
            _ => Ok(()),
        }
    }

    /// An edge needs two nodes that the caller may read and one that it may change. `place` is the edge's in its batch, the
    /// nodes are those of its source and its target.
    ///
    /// # Errors
    /// What the caller may not.
    pub fn check_join(
        &self,
        (place, new): (usize, &NewEdge),
        ends: [Option<&Node>; 2],
    ) -> Result<(), WriteError> {
        let mut changeable = false;
        for ((end, id), stored) in [("src", new.src), ("dst", new.dst)].into_iter().zip(ends) {
            let node = stored.filter(|node| self.may_read(node));
            let node = node.ok_or(WriteError::NotReadable {
                edge: place,
                end,
                id,
            })?;
            changeable |= self.may_change(&node.tenant);
        }
        match changeable {
            true => Ok(()),
            false => Err(WriteError::SharedEdge { edge: place }),
        }
    }
}
