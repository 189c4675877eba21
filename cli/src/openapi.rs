//! `weir openapi`: the OpenAPI document of the gateway's HTTP surface.

use crate::fail::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    let document = weir_gateway::openapi::document();
    anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
