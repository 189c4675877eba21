//! A request on its way to an answer: who asks, what, and the place it takes.
//!
//! Every surface of OpenAI's that answers comes through here, so that keys, limits and the queue are the same for all. What a
//! surface's body means is that surface's own. Reading on: `chat.rs`.

use super::admission::Place;
use super::{Surfaces, body, caller, extension};
use crate::ask::Ask;
use crate::gateway::Serving;
use crate::rescue::Rescue;
use axum::extract::Request;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Instant;
use weir_plan::Scope;

/// One request with what it holds while it is answered.
pub(crate) struct Asked {
    pub(crate) surfaces: Arc<Surfaces>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) ask: Ask,
    pub(crate) place: Place,
}

/// Reads a request as an [`Ask`] by way of the chat body that `translate` makes of its own, and takes a place for it. What
/// `translate` keeps beside it is returned.
pub(crate) async fn ask<T>(
    surfaces: Arc<Surfaces>,
    request: Request,
    translate: impl FnOnce(Bytes) -> Result<(Map<String, Value>, T), Rescue>,
) -> Result<(Asked, T), Rescue> {
    let received = Instant::now();
    let serving = surfaces.gateway.serving();
    let identity = surfaces
        .identify(&serving, request.headers(), Scope::Ask)
        .await?;
    let (head, bytes) = body::read(request, serving.plan.limits.body_max_bytes).await?;
    let user = identity.user.clone();
    let caller = caller(identity, &head.headers);
    let weir = extension(&head.headers)?;
    let (chat, kept) = translate(bytes)?;
    let mut ask = Ask::parse(chat, weir, caller, received)?;
    ask.client.user = user.or(ask.client.user);
    let until = serving.deadline(&ask.weir, ask.received);
    let place = surfaces.enter_to_ask(&serving, &mut ask, until).await?;
    let asked = Asked {
        surfaces,
        serving,
        ask,
        place,
    };
    Ok((asked, kept))
}
