//! What upkeep of a memory found, as text for people.

use crate::output::{bold, columns, dim};
use indicatif::HumanBytes;
use serde_json::Value;
use std::collections::BTreeMap;
use weir_memory::EdgeMetadata;
use weir_memory::upkeep::{
    BEYOND_REACH, CACHES, Check, DamagedRow, Diagnosis, Erased, Shown, Stats, Tuned,
};

/// Longest part of a text in a table, in characters.
const TEXT_CHARS: usize = 80;

pub(crate) fn stats(stats: &Stats, bytes_on_disk: u64) -> String {
    let head = [
        "NODES",
        "VECTORS",
        "PENDING",
        "EDGES",
        "DOCUMENTS",
        "DISK",
        "GENERATION",
        "EMBEDDING",
    ];
    let row = vec![
        stats.nodes.to_string(),
        stats.vectors.to_string(),
        stats.pending.to_string(),
        stats.edges.to_string(),
        stats.documents.to_string(),
        HumanBytes(bytes_on_disk).to_string(),
        stats.generation.to_string(),
        format!("{} ({})", stats.embedding_model, stats.dimensions),
    ];
    let mut parts = vec![columns(&head, vec![row])];
    for (head, counts) in [
        ("TYPE", &stats.types),
        ("TENANT", &stats.tenants),
        ("SOURCE", &stats.sources),
    ] {
        parts.extend(counted(head, counts));
    }
    if !stats.relations.is_empty() {
        let rows = stats.relations.iter().map(|(name, relation)| {
            let weight = format!("{:.3}", relation.mean_weight);
            vec![name.clone(), relation.edges.to_string(), weight]
        });
        parts.push(columns(
            &["RELATION", "EDGES", "MEAN WEIGHT"],
            rows.collect(),
        ));
    }
    let degrees = &stats.degrees;
    let row = [degrees.none, degrees.median, degrees.p99, degrees.max];
    let row = row.iter().map(u64::to_string).collect();
    parts.push(columns(
        &[
            "NODES WITHOUT EDGES",
            "MEDIAN DEGREE",
            "99TH PERCENTILE",
            "GREATEST",
        ],
        vec![row],
    ));
    parts.join("\n\n")
}

fn counted(head: &str, counts: &BTreeMap<String, u64>) -> Option<String> {
    let rows = counts
        .iter()
        .map(|(name, count)| vec![name.clone(), count.to_string()]);
    (!counts.is_empty()).then(|| columns(&[head, "NODES"], rows.collect()))
}

pub(crate) fn node(shown: &Shown) -> String {
    let node = &shown.node;
    let mut fields = vec![
        ("id", node.id.to_string()),
        ("tenant", node.tenant.clone()),
        ("type", node.node_type.as_str().to_owned()),
        ("source", node.source.as_str().to_owned()),
        ("stamp", node.stamp.to_string()),
        (
            "vector",
            if shown.has_vector { "yes" } else { "pending" }.to_owned(),
        ),
    ];
    let metadata = serde_json::to_value(&node.metadata).unwrap_or_default();
    let metadata = metadata.as_object().cloned().unwrap_or_default();
    for (name, value) in &metadata {
        fields.push((name.as_str(), said(name, value)));
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{} {value}", dim(format!("{name:10}"))))
        .collect();
    let mut parts = vec![fields.join("\n"), node.text.clone()];
    let rows = shown.edges.iter().map(|edge| {
        let (way, other) = match edge.src == node.id {
            true => ("->", edge.dst),
            false => ("<-", edge.src),
        };
        let end = shown.ends.get(&other);
        vec![
            way.to_owned(),
            edge.rel.clone(),
            format!("{:.3}", edge.weight),
            other.to_string(),
            end.map_or("-", |end| end.node_type.as_str()).to_owned(),
            short(end.map_or("-", |end| &end.title)),
            known(&edge.metadata),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        parts.push(dim("no edges"));
    } else {
        let head = ["", "RELATION", "WEIGHT", "NODE", "TYPE", "TITLE", "KNOWN"];
        parts.push(columns(&head, rows));
    }
    parts.join("\n\n")
}

/// Everything that is known about an edge but its weight.
fn known(metadata: &EdgeMetadata) -> String {
    let fields = serde_json::to_value(metadata).unwrap_or_default();
    let fields = fields.as_object().cloned().unwrap_or_default();
    let words = fields.iter().filter(|(_, value)| !value.is_null());
    let words = words.map(|(name, value)| format!("{name}={}", short(&said(name, value))));
    words.collect::<Vec<_>>().join(" ")
}

fn said(name: &str, value: &Value) -> String {
    let time = value.as_i64().filter(|_| name == "timestamp");
    let time = time.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    match (time, value) {
        (Some(time), _) => time.to_string(),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Array(list)) => {
            let words = list.iter().map(|value| said("", value));
            words.collect::<Vec<_>>().join(", ")
        }
        // Stored in 32 bits: as 64 it would show digits that nobody wrote.
        (_, Value::Number(number)) if number.is_f64() => {
            (number.as_f64().unwrap_or_default() as f32).to_string()
        }
        (_, other) => other.to_string(),
    }
}

fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(TEXT_CHARS).collect()
}

pub(crate) fn tuned(tuned: &Tuned) -> String {
    if tuned.exact {
        return format!(
            "{} vectors are so few that all are compared: nothing is missed",
            tuned.vectors
        );
    }
    let rows = tuned.efforts.iter().map(|effort| {
        vec![
            effort.ef_search.to_string(),
            format!("{:.4}", effort.recall),
            format!("{:.4}", effort.worst),
            format!("{:.0}", effort.microseconds),
            match effort.ef_search == tuned.ef_search {
                true => "<".to_owned(),
                false => String::new(),
            },
        ]
    });
    let head = ["EFSEARCH", "RECALL", "WORST", "MICROSECONDS", "CHOSEN"];
    let last = match tuned.reached {
        true => format!(
            "efSearch {} (it was {}) finds {:.4} of the {} truly nearest among {} vectors",
            tuned.ef_search, tuned.before, tuned.recall, tuned.nearest, tuned.vectors
        ),
        false => format!(
            "no effort finds {} of the {} truly nearest; efSearch {} finds {:.4}",
            tuned.target, tuned.nearest, tuned.ef_search, tuned.recall
        ),
    };
    format!("{}\n\n{last}", columns(&head, rows.collect()))
}

pub(crate) fn receipt(erased: &Erased) -> String {
    let at = i64::try_from(erased.erased_at).ok();
    let at = at.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    let row = vec![
        erased.nodes.to_string(),
        erased.summaries.to_string(),
        erased.traces.to_string(),
        erased.vectors.to_string(),
        erased.edges.to_string(),
        erased.documents.to_string(),
        erased.recollections.to_string(),
        erased.generation.to_string(),
        at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
    ];
    let head = [
        "NODES",
        "SUMMARIES",
        "TRACES",
        "VECTORS",
        "EDGES",
        "DOCUMENTS",
        "RECOLLECTIONS",
        "GENERATION",
        "ERASED",
    ];
    let mut parts = vec![columns(&head, vec![row])];
    if erased.ids.is_empty() {
        parts.push(
            "nothing is about this subject: it is compared exactly with metadata.subject"
                .to_owned(),
        );
        return parts.join("\n\n");
    }
    let ids: Vec<String> = erased.ids.iter().map(ToString::to_string).collect();
    parts.push(ids.join("\n"));
    parts.push(format!("caches: {CACHES}"));
    let beyond: Vec<String> = BEYOND_REACH
        .iter()
        .map(|what| format!("- {what}"))
        .collect();
    parts.push(format!("{}\n{}", bold("not erased"), beyond.join("\n")));
    parts.join("\n\n")
}

pub(crate) fn diagnosis(diagnosis: &Diagnosis) -> String {
    let rows = diagnosis.checks.iter().map(|check| {
        let examples = check.examples.first().cloned().unwrap_or_default();
        vec![
            check.name.clone(),
            state(check),
            check.found.to_string(),
            examples,
            if check.found > 0 {
                check.remedy.clone()
            } else {
                String::new()
            },
        ]
    });
    let head = ["CHECK", "STATE", "FOUND", "FOR EXAMPLE", "WHAT TO DO"];
    let seen = format!("{} nodes and {} edges", diagnosis.nodes, diagnosis.edges);
    format!("{}\n\n{seen}", columns(&head, rows.collect()))
}

fn state(check: &Check) -> String {
    match check {
        Check { found: 0, .. } => "good".to_owned(),
        Check { repaired: 1.., .. } => format!("{} repaired", check.repaired),
        Check { wrong: true, .. } => "wrong".to_owned(),
        Check { .. } => "look".to_owned(),
    }
}

pub(crate) fn damaged(rows: &[DamagedRow]) -> String {
    let rows = rows
        .iter()
        .map(|row| vec![row.table.clone(), row.key.clone(), row.reason.clone()]);
    columns(&["TABLE", "ROW", "WHAT IS WRONG"], rows.collect())
}
