//! The messages between the processes of a cluster, as tonic and prost make them from the `.proto` files beside this crate.
//!
//! `weir/control/v1`: what the operator tells gateways and hears from them. `weir/memory/v1`: the memory service. This crate
//! owns the wire format and nothing else; what a message means is in `gateway/cluster`, `operator/controller` and
//! `memory/service`.

/// The control stream between the operator and its gateways.
pub mod control {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.control.v1");
    }
}

/// The memory service.
pub mod memory {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.memory.v1");
    }
}
