//! The messages between processes, as tonic and prost make them from the `.proto` files beside this crate.
//!
//! `weir/gateway/v1`: what clients ask a gateway. `weir/control/v1`: what the operator tells gateways and hears from them.
//! `weir/memory/v1`: the memory service. This crate owns the wire format and nothing else; what a message means is in
//! `gateway/server`, `gateway/cluster`, `operator/controller` and `memory/service`.

/// The surface of a gateway for clients. Its messages are read from and written as JSON too, under the same names.
pub mod gateway {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.gateway.v1");

        /// What the package holds, for reflection: an encoded `FileDescriptorSet`.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gateway.bin"));
    }
}

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
