//! `weir memory train`: weights of a memory's attention from questions with known answers, or from its own links.
//!
//! Reads the questions, finds the passages they name, and hands both to weir-memory, which trains. Works on the files
//! themselves, since training reads the whole memory; a gateway that is started later uses what was applied.

use crate::args::{MemoryTrainArgs, Output};
use crate::fail::Failure;
use crate::lab::bar;
use crate::memory::{Place, place};
use crate::output::write_file;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use weir_local::OfflineMemory;
use weir_memory::{
    AttentionWeights, Filter, LabelledQuestion, Memory, NodeId, Query, SHARED_TENANT, TrainOptions,
    TrainReport, train,
};

/// A line of the questions' file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// What is asked.
    question: String,
    /// The passages that answer it, each by id, uri or title.
    gold: Vec<String>,
}

pub(crate) async fn run(args: MemoryTrainArgs) -> Result<(), Failure> {
    let open = match place(&args.place).await? {
        Place::Files(open) => open,
        Place::Running(_) => {
            return Err(Failure::new(
                "a gateway is using this memory, and training reads all of it: end it with `weir down`, train with \
                 -f FILE, and start it again",
            ));
        }
    };
    let tenant = args.tenant.as_deref().unwrap_or(SHARED_TENANT);
    let (questions, what) = match (&args.questions, args.masked_links) {
        (Some(file), _) => {
            let questions = labelled(&open, file, tenant).await?;
            (questions, file.display().to_string())
        }
        (None, Some(most)) => {
            let questions = open.memory.masked_links(tenant, most, args.seed)?;
            (questions, "masked links".to_owned())
        }
        (None, None) => return Err(Failure::new("give --questions or --masked-links")),
    };
    let options = TrainOptions {
        limits: open.limits(),
        seed: args.seed,
        ..TrainOptions::default()
    };
    let bar = bar("runs");
    let sets = [(&open.memory, questions.as_slice())];
    let trained = tokio::task::block_in_place(|| {
        train(&sets, &options, &mut |at| {
            bar.set_length(at.total as u64);
            bar.set_position(at.done as u64);
        })
    });
    bar.finish_and_clear();
    let (weights, report) = trained?;
    let learned = report.questions - report.unreachable;
    let weights = weights.named(format!("{learned} questions of {what}, seed {}", args.seed));
    keep(&args, &open.memory, &weights)?;
    say(&args, &report)
}

fn keep(
    args: &MemoryTrainArgs,
    memory: &Memory,
    weights: &AttentionWeights,
) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        write_file(out, &weights.to_json())?;
    }
    if args.apply {
        memory.keep_attention(weights.clone()).map_err(|error| {
            Failure::new(format!("cannot keep the weights with the memory: {error}"))
        })?;
    }
    Ok(())
}

fn say(args: &MemoryTrainArgs, report: &TrainReport) -> Result<(), Failure> {
    if args.place.output == Output::Json {
        let mut value = serde_json::to_value(report)?;
        value["applied"] = args.apply.into();
        anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let TrainReport {
        questions,
        unreachable,
        held_out,
        loss_before,
        loss,
        recall_before,
        recall,
        ..
    } = report;
    anstream::println!(
        "{questions} questions, {unreachable} of them without a gold passage within reach; on {held_out} held out: \
         loss {loss:.3} (before {loss_before:.3}), gold passages among the first five {recall:.3} (before {recall_before:.3})"
    );
    if args.apply {
        anstream::println!("the memory uses these weights from now on");
    } else {
        anstream::println!("the memory is as before; --apply makes it use the weights");
    }
    Ok(())
}

/// The questions of a file with their vectors and the nodes they name.
async fn labelled(
    open: &OfflineMemory,
    file: &Path,
    tenant: &str,
) -> Result<Vec<LabelledQuestion>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    let filter = Filter {
        tenant: tenant.to_owned(),
        ..Filter::default()
    };
    let names = names(&open.memory, &filter)?;
    let mut questions = Vec::new();
    let lines = text.lines().enumerate();
    for (place, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| Failure::new(format!("{shown}:{}: {why}", place + 1));
        let line: Line = serde_json::from_str(line).map_err(|error| {
            wrong(format!(
                "not a question: {error}; write {{\"question\": \"...\", \"gold\": [\"title, uri or id\"]}}"
            ))
        })?;
        let mut gold = Vec::new();
        for name in &line.gold {
            let found = names.get(name);
            let found = found.ok_or_else(|| {
                wrong(format!(
                    "no passage has the id, uri or title {name:?}; `weir memory search` shows them"
                ))
            })?;
            gold.extend(found);
        }
        let query = Query {
            vector: open.vector(&line.question).await,
            text: line.question,
            filter: filter.clone(),
            k: open.limits().seeds,
            exclude_edges: Vec::new(),
        };
        questions.push(LabelledQuestion { query, gold });
    }
    Ok(questions)
}

/// The nodes that each id, uri and title names.
fn names(memory: &Memory, filter: &Filter) -> Result<HashMap<String, Vec<NodeId>>, Failure> {
    let mut names: HashMap<String, Vec<NodeId>> = HashMap::new();
    memory.each_node(filter, &mut |node| {
        let id = Some(node.id.to_string());
        let (uri, title) = (node.metadata.uri, node.metadata.title);
        for name in [id, uri, title].into_iter().flatten() {
            names.entry(name).or_default().push(node.id);
        }
    })?;
    Ok(names)
}
