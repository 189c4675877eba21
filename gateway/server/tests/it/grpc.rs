//! A client of the surface over gRPC: calls and their messages, and what a status says.

use crate::world::World;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use weir_gateway::grpc::details::{BadRequest, DOMAIN, ErrorInfo, RetryInfo, RpcStatus};
use weir_proto::gateway::v1::gateway_client::GatewayClient;
use weir_proto::gateway::v1::{
    ChatChunk, ChatRequest, Function, Message, StreamOptions, Tool, ToolCall,
};

/// A connection to this gateway.
pub(crate) async fn channel(world: &World) -> Channel {
    connect(world.authority()).await
}

/// A connection to this host and port.
pub(crate) async fn connect(authority: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{authority}")).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) async fn client(world: &World) -> GatewayClient<Channel> {
    GatewayClient::new(channel(world).await)
}

/// A client that sends a deadline and leaves its clock to the gateway.
pub(crate) fn without_a_clock(world: &World) -> GatewayClient<Client<HttpConnector, Body>> {
    let mut http = Client::builder(TokioExecutor::new());
    let origin = format!("http://{}", world.authority()).parse().unwrap();
    GatewayClient::with_origin(http.http2_only(true).build_http(), origin)
}

/// One user turn for a model.
pub(crate) fn asking(model: &str, text: &str) -> ChatRequest {
    let message = Message {
        role: "user".to_owned(),
        content: Some(text.to_owned()),
        ..Message::default()
    };
    ChatRequest {
        model: model.to_owned(),
        messages: vec![message],
        ..ChatRequest::default()
    }
}

/// The same that wants to know what was used.
pub(crate) fn asking_for_usage(model: &str, text: &str) -> ChatRequest {
    let include_usage = Some(true);
    ChatRequest {
        stream_options: Some(StreamOptions { include_usage }),
        ..asking(model, text)
    }
}

/// One tool, `add`.
pub(crate) fn tools() -> Vec<Tool> {
    let function = Function {
        name: "add".to_owned(),
        parameters: Some(
            r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#.to_owned(),
        ),
        ..Function::default()
    };
    vec![Tool {
        function: Some(function),
        ..Tool::default()
    }]
}

/// A message with metadata.
pub(crate) fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// What a stream brings until it ends, and how it ends.
pub(crate) async fn read(mut stream: Streaming<ChatChunk>) -> (Vec<ChatChunk>, Result<(), Status>) {
    let mut chunks = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(chunk)) => chunks.push(chunk),
            Ok(None) => return (chunks, Ok(())),
            Err(status) => return (chunks, Err(status)),
        }
    }
}

/// The text that chunks add up to.
pub(crate) fn text_of(chunks: &[ChatChunk]) -> String {
    let choices = chunks.iter().flat_map(|chunk| &chunk.choices);
    let deltas = choices.filter_map(|choice| choice.delta.as_ref()?.content.as_deref());
    deltas.collect()
}

/// The pieces of tool calls that chunks bring.
pub(crate) fn pieces_of(chunks: &[ChatChunk]) -> Vec<&ToolCall> {
    let choices = chunks.iter().flat_map(|chunk| &chunk.choices);
    let deltas = choices.filter_map(|choice| choice.delta.as_ref());
    deltas.flat_map(|delta| &delta.tool_calls).collect()
}

/// What a status says: gRPC's code, the reason, OpenAI's type, the field, and the seconds to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) kind: String,
    pub(crate) field: Option<String>,
    pub(crate) wait_s: Option<i64>,
}

pub(crate) fn said(status: &Status) -> Said {
    let whole = RpcStatus::decode(status.details()).unwrap();
    assert_eq!(whole.code, i32::from(status.code()));
    assert_eq!(whole.message, status.message());
    let detail = |name: &str| {
        let url = format!("type.googleapis.com/google.rpc.{name}");
        let found = whole.details.iter().find(|detail| detail.type_url == url);
        found.map(|detail| detail.value.as_slice())
    };
    let info = ErrorInfo::decode(detail("ErrorInfo").unwrap()).unwrap();
    assert_eq!(info.domain, DOMAIN);
    let bad = detail("BadRequest").map(|bad| BadRequest::decode(bad).unwrap());
    let retry = detail("RetryInfo").map(|retry| RetryInfo::decode(retry).unwrap());
    Said {
        code: status.code(),
        reason: info.reason,
        kind: info.metadata["type"].clone(),
        field: bad.map(|bad| bad.field_violations[0].field.clone()),
        wait_s: retry.map(|retry| retry.retry_delay.unwrap().seconds),
    }
}
