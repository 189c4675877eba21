//! Every operation: who may call it, what it takes, what it answers and how it fails.

use super::{Schemas, answers, openai};
use crate::http::bodies;
use serde_json::{Value, json};

/// One method of one path.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    /// A key needs one of these; none of them needs no key.
    pub(crate) scopes: &'static [&'static str],
    pub(crate) parameters: Vec<Value>,
    pub(crate) request: Option<Value>,
    /// Status, description and content.
    pub(crate) answers: Vec<(u16, &'static str, Value)>,
    pub(crate) errors: &'static [u16],
}

const ASK: &[&str] = &["ask"];
const MEMORY: &[&str] = &["memory"];
/// What asking a model can end in.
const ASKING: &[u16] = &[400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504];
const REMEMBERING: &[u16] = &[400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504];
const LOOKING: &[u16] = &[401, 403, 404, 503];

fn json_content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

/// A whole answer, or the events of a stream.
fn answer(whole: &Value, event: &Value) -> Value {
    json!({"application/json": {"schema": whole}, "text/event-stream": {"schema": event}})
}

fn parameter(place: &str, name: &str, about: &str) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "description": about, "schema": {"type": "string"}})
}

/// The `x-weir-*` headers: the fields of the body's `weir` object, which wins field by field.
fn headers() -> Vec<Value> {
    [
        ("x-weir-budget-ms", "as weir.budget_ms"),
        ("x-weir-privacy", "as weir.privacy"),
        ("x-weir-device-class", "as weir.device_class"),
        ("x-weir-domain", "as weir.domain"),
        ("x-weir-session", "as weir.session"),
        ("x-weir-memory", "as weir.memory, `on` or `off`"),
        ("x-weir-citations", "as weir.citations"),
        ("x-weir-explain", "as weir.explain"),
        (
            "x-request-id",
            "names the request in logs; at most 128 bytes",
        ),
    ]
    .map(|(name, about)| parameter("header", name, about))
    .into()
}

fn post(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "post",
        path,
        id,
        tag: "openai",
        summary,
        scopes: ASK,
        parameters: headers(),
        request: None,
        answers: Vec::new(),
        errors: ASKING,
    }
}

fn get(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "get",
        parameters: Vec::new(),
        errors: LOOKING,
        ..post(path, id, summary)
    }
}

impl Operation {
    fn takes(self, schema: Value) -> Self {
        Self {
            request: Some(schema),
            ..self
        }
    }

    fn answers(mut self, description: &'static str, content: Value) -> Self {
        self.answers.push((200, description, content));
        self
    }
}

/// All of them; their schemas are added to `schemas`.
pub(crate) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = asking(schemas);
    all.extend(naming(schemas));
    all.extend(deciding(schemas));
    all.extend(of_memory(writing(schemas)));
    all.extend(of_memory(seeking(schemas)));
    all.extend(of_memory(forgetting()));
    all.extend(running());
    all
}

fn asking(schemas: &mut Schemas) -> Vec<Operation> {
    let chat = schemas.named("ChatRequest", openai::chat_request());
    // The chat's schema names it.
    schemas.of::<crate::extension::Extension>();
    let (chat_whole, chat_chunk) = (
        schemas.named("ChatCompletion", openai::chat_completion()),
        schemas.named("ChatChunk", openai::chat_chunk()),
    );
    let prompt = schemas.named("CompletionRequest", openai::completion_request());
    let completion = schemas.named("Completion", openai::completion());
    let input = schemas.named("ResponseRequest", openai::response_request());
    let (response, event) = (
        schemas.named("Response", openai::response()),
        schemas.named("ResponseEvent", openai::response_event()),
    );
    schemas.named("Usage", openai::usage());
    vec![
        post(
            "/v1/chat/completions",
            "chat",
            "Answers a conversation: routed with model `auto`, else by the model named",
        )
        .takes(chat)
        .answers(
            "The answer, whole or as events that end with [DONE]",
            answer(&chat_whole, &chat_chunk),
        ),
        post(
            "/v1/completions",
            "complete",
            "Completes a prompt; with model `auto`, answers it as a question",
        )
        .takes(prompt)
        .answers(
            "The text, whole or as events that end with [DONE]",
            answer(&completion, &completion),
        ),
        post(
            "/v1/responses",
            "respond",
            "Answers an input as OpenAI's Responses do; nothing is stored",
        )
        .takes(input)
        .answers(
            "The response, whole or as typed events",
            answer(&response, &event),
        ),
    ]
}

fn naming(schemas: &mut Schemas) -> Vec<Operation> {
    let model = schemas.named("Model", answers::model());
    let embeddings = schemas.of::<bodies::Embeddings>();
    let generate = schemas.of::<bodies::Generate>();
    let models = json!({"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": model}}});
    vec![
        post(
            "/v1/embeddings",
            "embed",
            "Vectors of texts, by the memory's embedding model or a pool's",
        )
        .takes(embeddings)
        .answers(
            "The vectors, in the order of their texts",
            json_content(&answers::embeddings()),
        ),
        get(
            "/v1/models",
            "models",
            "The models: `auto`, then every pool's",
        )
        .answers("The models", json_content(&models)),
        Operation {
            parameters: vec![parameter("path", "model", "`auto` or a pool's model")],
            ..get("/v1/models/{model}", "model", "One model")
                .answers("The model", json_content(&model))
        },
        post(
            "/generate",
            "generate",
            "One named model, one prompt: no memory, no router",
        )
        .takes(generate)
        .answers(
            "The text and what it used",
            json_content(&answers::generated()),
        ),
    ]
}

fn deciding(schemas: &mut Schemas) -> Vec<Operation> {
    let chat = json!({"$ref": "#/components/schemas/ChatRequest"});
    let feedback = schemas.of::<bodies::Feedback>();
    let routed = post(
        "/v1/route",
        "route",
        "What would be decided about a chat; nothing is generated",
    )
    .takes(chat)
    .answers("The choice and every arm", json_content(&answers::route()));
    let scored = Operation {
        scopes: &["ask", "judge"],
        parameters: Vec::new(),
        errors: &[400, 401, 403, 404, 408, 413, 503],
        ..post(
            "/v1/feedback",
            "feedback",
            "A score for a decision; with a propensity, a judge's label",
        )
    };
    let shown = Operation {
        scopes: &["ask", "judge"],
        parameters: vec![parameter("path", "id", "x-weir-decision of an answer")],
        ..get(
            "/v1/decisions/{id}",
            "decision",
            "Everything that was recorded about one answer, for its tenant and judges",
        )
    };
    [
        routed,
        scored.takes(feedback).answers(
            "Whether it was kept, and whether it counts in a rollout",
            json_content(&answers::scored()),
        ),
        shown.answers(
            "The log row: docs/request.md says what stands in it",
            json_content(&answers::row()),
        ),
    ]
    .map(|operation| Operation {
        tag: "decisions",
        ..operation
    })
    .into()
}

/// What the operations of the memory have in common.
fn of_memory(operations: Vec<Operation>) -> impl Iterator<Item = Operation> {
    operations.into_iter().map(|operation| Operation {
        tag: "memory",
        errors: REMEMBERING,
        ..operation
    })
}

/// A call whose words may travel to be embedded.
fn memory_post(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let about = "how far the words may travel to be embedded";
    Operation {
        scopes: MEMORY,
        parameters: vec![parameter("header", "x-weir-privacy", about)],
        ..post(path, id, summary)
    }
}

fn writing(schemas: &mut Schemas) -> Vec<Operation> {
    let (nodes, edges) = (schemas.of::<bodies::Nodes>(), schemas.of::<bodies::Edges>());
    vec![
        memory_post(
            "/v1/memory/nodes",
            "writeNodes",
            "Writes nodes, at most 1,000",
        )
        .takes(nodes)
        .answers(
            "Their ids and what changed",
            json_content(&answers::written_nodes()),
        ),
        Operation {
            parameters: Vec::new(),
            ..memory_post(
                "/v1/memory/edges",
                "writeEdges",
                "Writes edges, at most 1,000",
            )
        }
        .takes(edges)
        .answers("How many", json_content(&answers::written_edges())),
    ]
}

fn seeking(schemas: &mut Schemas) -> Vec<Operation> {
    let question = schemas.of::<bodies::Question>();
    vec![
        memory_post(
            "/v1/memory/search",
            "search",
            "Finds nodes by meaning and words",
        )
        .takes(question.clone())
        .answers(
            "The nodes found, best first",
            json_content(&answers::hits()),
        ),
        memory_post(
            "/v1/memory/attend",
            "attend",
            "Searches, then walks the graph with attention",
        )
        .takes(question)
        .answers(
            "The nodes reached, best first",
            json_content(&answers::attended()),
        ),
    ]
}

fn forgetting() -> Vec<Operation> {
    let delete = |path, id, summary| Operation {
        method: "delete",
        ..memory_post(path, id, summary)
    };
    vec![
        Operation {
            parameters: vec![parameter("path", "id", "the node")],
            ..delete(
                "/v1/memory/nodes/{id}",
                "deleteNode",
                "Deletes a node with its edges",
            )
        }
        .answers("It is gone", json_content(&answers::deleted())),
        Operation {
            scopes: &["admin"],
            parameters: vec![
                parameter("path", "subject", "whose data"),
                parameter("query", "tenant", "of one tenant only; without it, of all"),
            ],
            ..delete(
                "/v1/memory/subjects/{subject}",
                "eraseSubject",
                "Erases all that is about a subject",
            )
        }
        .answers(
            "A receipt: what is gone, and what cannot be reached from here",
            json_content(&answers::erased()),
        ),
    ]
}

fn running() -> Vec<Operation> {
    let open = |path, id, summary| Operation {
        tag: "operations",
        scopes: &[],
        errors: &[],
        ..get(path, id, summary)
    };
    let text =
        |example: &str| json!({"text/plain": {"schema": {"type": "string"}, "example": example}});
    let ready = json_content(&answers::ready());
    let mut readyz = open(
        "/readyz",
        "ready",
        "Whether some model can answer, and what is served",
    )
    .answers("Ready", ready.clone());
    readyz.answers.push((503, "Not ready", ready));
    vec![
        open("/healthz", "healthy", "Whether this process answers")
            .answers("It does", text("ok\n")),
        readyz,
        open(
            "/metrics",
            "metrics",
            "Prometheus metrics, on a port of their own where the plan says so",
        )
        .answers(
            "The metrics",
            text("weir_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1\n"),
        ),
    ]
}
