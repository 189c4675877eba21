//! Requests to servers outside of the cluster: whom they believe, how much of an answer is read, why there is none.

use futures_util::StreamExt;
use reqwest::{Certificate, ClientBuilder, Response};
use std::error::Error;
use weir_plan::chain;

/// A client that believes these authorities, PEM, too.
pub(crate) fn believing(
    client: ClientBuilder,
    authorities: &str,
) -> reqwest::Result<ClientBuilder> {
    let all = Certificate::from_pem_bundle(authorities.as_bytes())?;
    Ok(all
        .into_iter()
        .fold(client, ClientBuilder::add_root_certificate))
}

/// The bytes of an answer; `None` where they are more than these.
pub(crate) async fn body(answer: Response, bytes_max: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() > bytes_max {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// Why a request failed, without its address, which is said already.
pub(crate) fn says(error: &reqwest::Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}
