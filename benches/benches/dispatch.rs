//! How much of their prompts three replicas need not read again: by prefix, by turns, and with one replica that has everything.
//!
//! Real llama.cpp servers with one slot each, started anew for every system, are sent the same conversations in the same order, three at
//! a time. What was cached is what the engine itself reports.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use weir_engine::{ChatRequest, Engines, Prefix, Priority};
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::mean;
use weir_plan::{Endpoint, Pool};
use weir_testenv::LlamaServer;

const REPLICAS: usize = 3;
const CONVERSATIONS: u64 = 12;
/// Conversations about each document.
const SHARED_BY: u64 = 3;
const TURNS: usize = 5;
const SYSTEM_WORDS: usize = 60;
const DOCUMENT_WORDS: usize = 220;
const TURN_WORDS: usize = 30;
const CONTEXT_TOKENS: u32 = 2048;
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a system came to.
struct Outcome {
    /// Tokens that were not read again, of all that were sent.
    cached: f64,
    /// Seconds until the first token.
    first_s: f64,
}

/// Who chooses the replica.
#[derive(Clone, Copy)]
enum Chosen {
    ByPrefix,
    InTurn,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(prefix) = outcome(REPLICAS, Chosen::ByPrefix).await? else {
        return Ok(());
    };
    let (Some(turns), Some(one)) = (
        outcome(REPLICAS, Chosen::InTurn).await?,
        outcome(1, Chosen::InTurn).await?,
    ) else {
        bail!("the engine or its model went away");
    };
    let mut results = Results::new("dispatch", "cargo bench -p weir-bench --bench dispatch");
    results.notes.push(format!(
        "{CONVERSATIONS} conversations of {TURNS} turns, {SHARED_BY} about each document, in a shuffled order, {REPLICAS} at a time; \
         {REPLICAS} llama.cpp servers of SmolLM2-135M with one slot and one thread each; the oracle is one such server that is sent \
         everything; cached tokens as the engine reports them"
    ));
    results.rows = vec![
        Row::new("cached.prefix", "share", prefix.cached),
        Row::new("cached.round_robin", "share", turns.cached),
        Row::new("cached.one_replica", "share", one.cached),
        Row::new(
            "cached.prefix_of_oracle",
            "ratio",
            prefix.cached / one.cached,
        )
        .goal(Goal::AtLeast(0.95)),
        Row::new(
            "cached.prefix_of_round_robin",
            "ratio",
            prefix.cached / turns.cached,
        )
        .goal(Goal::AtLeast(2.0)),
        Row::new("first_token.prefix", "s", prefix.first_s).against("round robin", turns.first_s),
    ];
    weir_bench::publish(&results)
}

/// Runs every conversation on servers of its own; `None`, said loudly, where engine or model is absent.
async fn outcome(replicas: usize, chosen: Chosen) -> anyhow::Result<Option<Outcome>> {
    let servers: Option<Vec<LlamaServer>> = (0..replicas)
        .map(|_| LlamaServer::with_smollm2(CONTEXT_TOKENS))
        .collect();
    let Some(servers) = servers else {
        return Ok(None);
    };
    let endpoints: Vec<Endpoint> = (servers.iter())
        .map(|server| Endpoint::keyless(&server.url()))
        .collect();
    let whole = Pool {
        context_tokens: CONTEXT_TOKENS,
        endpoints,
        ..Pool::local("small")
    };
    let engines = Engines::new();
    let (mut cached, mut sent, mut firsts, mut number) = (0, 0, Vec::new(), 0);
    for round in rounds() {
        let requests = round.iter().map(|(conversation, turn)| {
            let at = number % replicas;
            number += 1;
            let mut pool = whole.clone();
            if matches!(chosen, Chosen::InTurn) {
                pool.name = format!("small-{at}");
                pool.endpoints = vec![whole.endpoints[at].clone()];
            }
            ask(&engines, pool, *conversation, *turn)
        });
        let requests: Vec<_> = requests.collect();
        for answer in try_join_all(requests).await? {
            cached += answer.cached;
            sent += answer.sent;
            firsts.push(answer.first_s);
        }
    }
    println!("{replicas} replicas: {cached} of {sent} tokens cached");
    Ok(Some(Outcome {
        cached: f64::from(cached) / f64::from(sent),
        first_s: mean(&firsts),
    }))
}

/// Which conversation has its next turn when: in a shuffled order, as many at a time as there are replicas, none twice at once.
fn rounds() -> Vec<Vec<(u64, usize)>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut next = vec![0; CONVERSATIONS as usize];
    let mut rounds = Vec::new();
    loop {
        let mut open: Vec<u64> = (0..CONVERSATIONS)
            .filter(|conversation| next[*conversation as usize] < TURNS)
            .collect();
        if open.is_empty() {
            return rounds;
        }
        open.shuffle(&mut random);
        let round = open.into_iter().take(REPLICAS).map(|conversation| {
            let turn = &mut next[conversation as usize];
            *turn += 1;
            (conversation, *turn - 1)
        });
        rounds.push(round.collect());
    }
}

/// The messages of a conversation up to a turn: answers are part of it, the same whoever asks.
fn messages(conversation: u64, turn: usize) -> Vec<(&'static str, String)> {
    let document = 100 + conversation / SHARED_BY;
    let mut messages = vec![
        ("system", weir_bench::passage(1, SYSTEM_WORDS)),
        ("user", weir_bench::passage(document, DOCUMENT_WORDS)),
        ("assistant", "Ask.".to_owned()),
    ];
    for turn in 0..=turn as u64 {
        let number = 1000 * (conversation + 1) + 2 * turn;
        messages.push(("user", weir_bench::passage(number, TURN_WORDS)));
        messages.push(("assistant", weir_bench::passage(number + 1, TURN_WORDS)));
    }
    messages.pop();
    messages
}

/// What one answer came to.
struct Answered {
    cached: u32,
    sent: u32,
    first_s: f64,
}

async fn ask(
    engines: &Engines,
    pool: Pool,
    conversation: u64,
    turn: usize,
) -> anyhow::Result<Answered> {
    let messages = messages(conversation, turn);
    let mut prefix = Prefix::new("bench", None);
    for (role, text) in &messages {
        prefix.push(role, text);
    }
    let messages: Vec<Value> = (messages.iter())
        .map(|(role, text)| json!({"role": role, "content": text}))
        .collect();
    let body = [
        ("messages", json!(messages)),
        ("max_tokens", json!(2)),
        ("temperature", json!(0)),
    ];
    let started = Instant::now();
    let request = ChatRequest {
        body: Map::from_iter(body.map(|(field, value)| (field.to_owned(), value))),
        prefix: Some(prefix),
        priority: Priority::Normal,
        deadline: started + TIMEOUT,
    };
    let mut stream = engines.chat(&pool, request).await?;
    let first_s = started.elapsed().as_secs_f64();
    let mut usage = None;
    while let Some(event) = stream.next().await {
        usage = event?.usage.or(usage);
    }
    let usage = usage.context("an answer without usage")?;
    Ok(Answered {
        cached: usage.cached_tokens,
        sent: usage.prompt_tokens,
        first_s,
    })
}
