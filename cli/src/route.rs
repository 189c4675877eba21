//! How an answer came about, drawn from its decision record: model, why, recall, tokens, time per step as bars.

use crate::output::{bold, dim, warning};
use weir_gateway::record::{CacheRow, LatencyRow, Record, Source, TokensRow};
use weir_router::RecallMode;

/// Longest bar, in characters.
const BAR: usize = 32;

/// The route of one decision.
pub(crate) fn text(record: &Record) -> String {
    let mut lines = vec![model(record)];
    lines.extend(why(record));
    if let Some(CacheRow::Hit { decision }) = &record.cache {
        lines.push(format!(
            "cache    the answer of decision {decision}, given again"
        ));
    }
    lines.push(recall(record));
    lines.extend(record.sources.iter().map(source));
    let TokensRow {
        prompt,
        cached,
        completion,
        counted,
    } = record.tokens;
    lines.push(if counted {
        format!("tokens   {completion} answer, counted: the engine did not say")
    } else {
        format!("tokens   {prompt} prompt ({cached} cached), {completion} answer")
    });
    lines.extend(times(&record.latency_ms));
    lines.push(dim(format!("decision {}", record.decision_id)));
    lines.join("\n")
}

fn model(record: &Record) -> String {
    let Some(executed) = &record.executed else {
        return "model    none answered".into();
    };
    let mut line = format!("model    {}", bold(&executed.model));
    if record
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.asked.is_some() && verdict.error.is_none())
    {
        line.push_str(&format!("  {}", warning("asked again of a bigger model")));
    }
    for failed in &record.failover {
        line.push_str(&format!(
            "  {}",
            warning(format!("{} failed ({})", failed.pool, failed.error))
        ));
    }
    line
}

fn why(record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(choice) = &record.choice else {
        return vec!["why      the request pinned this model".into()];
    };
    if let Some(guardrail) = &record.guardrail {
        lines.push(format!(
            "why      guardrail {guardrail:?} overrides the router"
        ));
    } else {
        let outcome = &choice.outcome;
        let quality = outcome.qualities.get(outcome.arm).copied().unwrap_or(0.0);
        let seconds = choice
            .inputs
            .latency_s
            .get(outcome.arm)
            .copied()
            .unwrap_or(0.0);
        let permitted = choice
            .inputs
            .permitted
            .iter()
            .filter(|permitted| **permitted)
            .count();
        let how = if outcome.explored {
            "explored"
        } else {
            "best value"
        };
        lines.push(format!(
            "why      {how} of {permitted} permitted arms: quality {quality:.1} of 5 expected in {seconds:.1} s"
        ));
    }
    if let Some(verdict) = &record.verdict {
        let quality = verdict.outcome.quality;
        let explored = if verdict.outcome.explored {
            ", to explore"
        } else {
            ""
        };
        lines.push(match (&verdict.asked, &verdict.error) {
            (Some(model), None) => {
                format!("verdict  the first answer looked like {quality:.1} of 5: {model} was asked{explored}")
            }
            (Some(model), Some(error)) => {
                format!("verdict  {quality:.1} of 5, {model} was asked and failed ({error}): first answer kept")
            }
            (None, _) => format!("verdict  accepted{explored}: the answer looks like {quality:.1} of 5"),
        });
    }
    lines
}

fn recall(record: &Record) -> String {
    let looked_at = record
        .retrieval
        .as_ref()
        .map_or(0, |found| found.nodes_used.unwrap_or(found.k));
    match &record.executed {
        Some(executed) if executed.recall != RecallMode::None => format!(
            "recall   {}, at most {} tokens, {} blocks from {looked_at} passages",
            format!("{:?}", executed.recall).to_lowercase(),
            executed.context_tokens,
            record.sources.len()
        ),
        _ => format!("recall   none entered the prompt ({looked_at} passages were looked at)"),
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
mod tests {
    use super::*;

    #[test]
    fn bars_share_the_total_and_are_never_empty() {
        assert_eq!(bar(50.0, 100.0).chars().count(), BAR / 2);
        assert_eq!(bar(0.001, 100.0).chars().count(), 1);
        assert_eq!(bar(100.0, 100.0).chars().count(), BAR);
        assert_eq!(bar(5.0, 0.0).chars().count(), 1);
    }
}
