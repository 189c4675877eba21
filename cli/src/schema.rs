//! `weir schema`: JSON Schema of stack files.

use crate::args::SchemaArgs;
use crate::fail::Failure;

pub(crate) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    let schema = weir_crds::schema(args.kind.as_deref())?;
    anstream::println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
