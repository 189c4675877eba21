//! Compiles the .proto files with protox, so that no protoc has to be installed.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 3] = [
    "weir/control/v1/control.proto",
    "weir/gateway/v1/gateway.proto",
    "weir/memory/v1/memory.proto",
];
/// The package for clients: it may be asked what it holds, and its messages are JSON's of the same names.
const FOR_CLIENTS: &str = "weir.gateway.v1";

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let mut described = descriptors.clone();
    described.file.retain(|file| file.package() == FOR_CLIENTS);
    for file in &mut described.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("gateway.bin"), described.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .message_attribute(
            format!(".{FOR_CLIENTS}"),
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
