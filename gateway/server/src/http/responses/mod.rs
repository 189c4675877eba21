//! `POST /v1/responses`: OpenAI's newer surface, answered by the same chat, routed or pinned.
//!
//! A body is translated to one chat (`input.rs`) and the answer back (`output.rs` whole, `events.rs` as a stream). Nothing
//! is stored: a conversation is sent whole each time. Reading on: `asked.rs`.

mod events;
mod input;
mod items;
mod output;

use super::asked::{self, Asked};
use super::chat;
use super::chunks::Wanted;
use super::pinned::{self, Sent};
use super::stream::{self, Streamed};
use super::{Shared, Surfaces, body};
use crate::ask::ModelChoice;
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use events::ResponseEvents;
use input::{Translated, translate};
use output::Told;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a chat's fields are called here.
const NAMES: [(&str, &str); 2] = [("messages", "input"), ("max_tokens", "max_output_tokens")];

pub(crate) async fn respond(State(surfaces): Shared, request: Request) -> Result<Response, Rescue> {
    let answered = answer(surfaces, request).await;
    answered.map_err(|error| error.renamed(&NAMES))
}

async fn answer(surfaces: Arc<Surfaces>, request: Request) -> Result<Response, Rescue> {
    let read = |bytes: Bytes| {
        let Translated { chat, echo } = translate(body::object(&bytes)?)?;
        Ok((chat.clone(), (chat, echo)))
    };
    let (asked, (mut chat, echo)) = asked::ask(surfaces, request, read).await?;
    chat.remove("weir");
    let told = Told::new(echo, Wanted::of(&asked.ask));
    if asked.ask.client.stream {
        let streamed = begin(asked, chat).await?;
        let events = ResponseEvents::new(told, streamed.decision.clone());
        return Ok(streamed.respond(events));
    }
    let (answer, headers) = match asked.ask.model {
        ModelChoice::Auto => chat::whole(asked).await?,
        ModelChoice::Pinned(_) => {
            let streamed = begin(asked, chat).await?;
            let headers = streamed.headers.clone();
            (streamed.collect().await?, headers)
        }
    };
    Ok((headers, Json(told.whole(&answer))).into_response())
}

async fn begin(asked: Asked, chat: Map<String, Value>) -> Result<Streamed, Rescue> {
    match asked.ask.model {
        ModelChoice::Auto => stream::routed(asked).await,
        ModelChoice::Pinned(_) => pinned::stream(asked, Sent::Chat(chat)).await,
    }
}
