//! What a gateway needs in a cluster: control stream, remote memory, plan on the disk.

mod memory;
mod tls;

pub use memory::{MemoryService, RemoteMemory};
pub use tls::{Tls, TlsError};
