//! What a gateway needs in a cluster: control stream, remote memory, plan on the disk.
