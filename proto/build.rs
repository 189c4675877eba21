//! Compiles the .proto files with protox, so that no protoc has to be installed.

use std::error::Error;

const FILES: [&str; 2] = [
    "weir/control/v1/control.proto",
    "weir/memory/v1/memory.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
