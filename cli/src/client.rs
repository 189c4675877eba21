//! The HTTP client of commands that speak to a gateway elsewhere.

use crate::fail::Failure;
use std::time::Duration;

/// Certificate authorities that are believed beside the public ones, PEM.
const AUTHORITIES: &str = "WEIR_CA_BUNDLE";

/// A client whose requests take at most `timeout`.
pub(crate) fn client(timeout: Duration) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder().timeout(timeout).no_proxy();
    if let Some(path) = std::env::var_os(AUTHORITIES).filter(|path| !path.is_empty()) {
        let unusable = |why: &dyn std::fmt::Display| {
            let path = path.display();
            Failure::new(format!(
                "{AUTHORITIES} names {path}, which holds no certificates in PEM: {why}"
            ))
        };
        let pem = std::fs::read(&path).map_err(|error| unusable(&error))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem);
        for authority in authorities.map_err(|error| unusable(&error))? {
            builder = builder.add_root_certificate(authority);
        }
    }
    Ok(builder.build()?)
}
