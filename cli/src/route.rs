//! How an answer came about, drawn from its decision record: model, why, recall, tokens, time per step as bars.

use crate::output::{bold, dim, warning};
use weir_gateway::record::{CacheRow, LatencyRow, Record, Source, TokensRow, VerdictRow};
use weir_router::RecallMode;

/// Longest bar, in characters.
const BAR: usize = 32;

/// The route of one decision.
pub(crate) fn text(record: &Record) -> String {
    let mut lines = vec![model(record), why(record)];
    lines.extend(record.verdict.as_ref().map(verdict));
    if let Some(CacheRow::Hit { decision, near }) = &record.cache {
        let asked = if *near {
            " to its question in another spelling"
        } else {
            ""
        };
        lines.push(format!(
            "cache    the answer of decision {decision}{asked}, given again"
        ));
    }
    lines.push(recall(record));
    lines.extend(record.sources.iter().map(source));
    lines.push(tokens(record));
    lines.extend(times(&record.latency_ms));
    lines.push(dim(format!("decision {}", record.decision_id)));
    lines.join("\n")
}

fn model(record: &Record) -> String {
    let Some(executed) = &record.executed else {
        return "model    none answered".into();
    };
    let mut line = format!("model    {}", bold(&executed.model));
    if asked_again(record).is_some_and(|verdict| verdict.error.is_none()) {
        line.push_str(&format!("  {}", warning("second attempt")));
    }
    for failed in &record.failover {
        let pool = &failed.pool;
        let failed = warning(format!("pool {pool} failed ({})", words(&failed.error)));
        line.push_str(&format!("  {failed}"));
    }
    line
}

fn asked_again(record: &Record) -> Option<&VerdictRow> {
    let verdict = record.verdict.as_ref();
    verdict.filter(|verdict| verdict.asked.is_some())
}

/// The kind of a failure as people write it.
fn words(kind: &str) -> String {
    kind.replace('_', " ")
}

fn why(record: &Record) -> String {
    let Some(choice) = &record.choice else {
        return "why      the request names this model".into();
    };
    if let Some(guardrail) = &record.guardrail {
        return format!("why      guardrail {guardrail:?} decided, not the router");
    }
    let (outcome, inputs) = (&choice.outcome, &choice.inputs);
    let of_arm = |list: &[f64]| list.get(outcome.arm).copied().unwrap_or(0.0);
    let (quality, seconds) = (of_arm(&outcome.qualities), of_arm(&inputs.latency_s));
    let model = choice.chosen.as_ref().map(|chosen| chosen.model.as_str());
    let model = model.unwrap_or("this model");
    let ways = inputs.permitted.iter().filter(|permitted| **permitted);
    let ways = format!("{} permitted ways to answer", ways.count());
    let chosen = if outcome.held_back.is_some() {
        format!("{model}, since the smallest model is not certified for this")
    } else if outcome.explored {
        format!("{model} to explore, one of {ways}")
    } else {
        format!("{model}, the best value of {ways}")
    };
    format!("why      {chosen}: quality {quality:.1} of 5 expected in {seconds:.1} s")
}

fn verdict(verdict: &VerdictRow) -> String {
    let looked = format!("{:.1} of 5", verdict.outcome.quality);
    let explored = verdict.outcome.explored;
    match (&verdict.asked, &verdict.error) {
        (Some(model), None) if explored => {
            format!("verdict  the first answer looked like {looked}, {model} was asked to explore")
        }
        (Some(model), None) => {
            format!("verdict  the first answer looked like {looked}, so {model} was asked")
        }
        (Some(model), Some(error)) => {
            let error = words(error);
            format!(
                "verdict  the answer looks like {looked}; {model} was asked and failed ({error})"
            )
        }
        (None, _) if explored => {
            format!("verdict  accepted to explore: the answer looks like {looked}")
        }
        (None, _) => format!("verdict  accepted: the answer looks like {looked}"),
    }
}

fn recall(record: &Record) -> String {
    let Some(found) = &record.retrieval else {
        return "recall   none: no memory was searched".into();
    };
    let looked_at = found.nodes_used.unwrap_or(found.k);
    match &record.executed {
        Some(executed) if executed.recall != RecallMode::None => {
            let blocks = record.sources.len();
            format!(
                "recall   {}: {blocks} block{}, together at most {} tokens, from {looked_at} passages",
                executed.recall,
                if blocks == 1 { "" } else { "s" },
                executed.context_tokens,
            )
        }
        _ => format!("recall   none in the prompt, {looked_at} passages were looked at"),
    }
}

fn tokens(record: &Record) -> String {
    let TokensRow {
        prompt,
        cached,
        completion,
        counted,
    } = record.tokens;
    let of = match asked_again(record) {
        Some(_) => ", of both attempts",
        None => "",
    };
    if counted {
        format!("tokens   {completion} answer, counted: the engine did not say")
    } else {
        format!("tokens   {prompt} prompt ({cached} cached), {completion} answer{of}")
    }
}

fn source(source: &Source) -> String {
    let title = source
        .title
        .as_deref()
        .or(source.uri.as_deref())
        .unwrap_or(&source.id);
    dim(format!(
        "         [{}] {:.2}  {title}",
        source.number, source.score
    ))
}

fn times(latency: &LatencyRow) -> Vec<String> {
    let steps = [
        ("queue", latency.queue),
        ("embed", latency.embed),
        ("search", latency.retrieval),
        ("attend", latency.attention),
        ("router", latency.router),
        ("prompt", latency.prompt),
        ("model", latency.llm),
    ];
    let took = steps.into_iter().filter(|(_, ms)| *ms > 0.0);
    let mut lines: Vec<String> = took
        .map(|(name, ms)| format!("{name:<8} {ms:>9.1} ms  {}", bar(ms, latency.total)))
        .collect();
    let (total, ttft) = (latency.total, latency.ttft);
    lines.push(format!(
        "{:<8} {total:>9.1} ms  first token after {ttft:.0} ms",
        "total"
    ));
    lines
}

/// A step that took any time has a bar of at least one character.
fn bar(ms: f64, total: f64) -> String {
    let share = if total > 0.0 {
        (ms / total).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let filled = (1..=BAR)
        .rev()
        .find(|count| *count as f64 <= share * BAR as f64 + 0.5);
    "█".repeat(filled.unwrap_or(1))
}

#[cfg(test)]
mod tests;
