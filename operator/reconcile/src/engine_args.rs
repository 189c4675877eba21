//! The arguments of llama.cpp's server, the same in a pod and under `weir up`.

/// Longest text, in tokens, that an embedding engine is given memory for: a text is read in one piece.
const EMBEDDED_TOKENS_MAX: u32 = 2048;

/// Everything but the file that decides how llama.cpp's server runs.
#[derive(Clone, Copy, Debug)]
pub struct EngineArgs<'a> {
    /// Name of the model, shown by the engine.
    pub model: &'a str,
    /// Address to listen at.
    pub host: &'a str,
    /// Port to listen at.
    pub port: u16,
    /// Threads.
    pub threads: u32,
    /// Whether it makes vectors instead of text.
    pub embeds: bool,
    /// Tokens of one request.
    pub context_tokens: u32,
    /// Requests at the same time.
    pub slots: u32,
    /// What the pool adds.
    pub extra_args: &'a [String],
}

/// The arguments behind `-m FILE`. Each slot gets the whole context; what the pool adds comes last and so wins.
pub fn llama_cpp_args(args: &EngineArgs<'_>) -> Vec<String> {
    let context = u64::from(args.context_tokens) * u64::from(args.slots);
    let pairs = [
        ("--alias", args.model.to_owned()),
        ("--host", args.host.to_owned()),
        ("--port", args.port.to_string()),
        ("-c", context.to_string()),
        ("-np", args.slots.to_string()),
        ("-t", args.threads.to_string()),
    ];
    let mut line: Vec<String> = Vec::new();
    for (flag, value) in pairs {
        line.extend([flag.to_owned(), value]);
    }
    line.extend(["--jinja", "--metrics", "--no-webui"].map(str::to_owned));
    if args.embeds {
        let tokens = args.context_tokens.min(EMBEDDED_TOKENS_MAX).to_string();
        line.extend(["--embeddings".into(), "--ubatch-size".into(), tokens]);
    }
    line.extend(args.extra_args.iter().cloned());
    line
}
