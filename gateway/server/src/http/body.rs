//! Request bodies: bounded in size and time, read as JSON, refused with the field's name.
//!
//! Reading on: `chat.rs`, the first user.

use crate::rescue::Rescue;
use axum::extract::Request;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// A body that takes longer to arrive is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole body, at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: u64) -> Result<(Parts, Bytes), Rescue> {
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes, the limit of this gateway");
        Rescue::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > limit {
        return Err(too_large());
    }
    let body = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    match tokio::time::timeout(READ_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok((head, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Rescue::new(
            StatusCode::BAD_REQUEST,
            "body_broken",
            "the body ended early",
        )),
        Err(_) => Err(Rescue::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_slow",
            "the body took too long",
        )),
    }
}

/// The body as a JSON object.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Rescue> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(not_json(
            "the body is JSON but no object: send {\"...\": ...}".to_owned(),
        )),
        Err(error) => Err(not_json(format!("the body is not JSON: {error}"))),
    }
}

/// The body as a type of ours.
pub(crate) fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Rescue> {
    Ok(crate::ask::read(&Value::Object(object(bytes)?), "")?)
}

fn not_json(message: String) -> Rescue {
    Rescue::new(StatusCode::BAD_REQUEST, "invalid_body", message)
}
