//! The corpora: passages in a memory of their own, and questions whose answers are known.
//!
//! Each corpus keeps its store in the cache folder, so that a second run finds the passages with their vectors. The
//! multi-hop sets are read as they were published; the questions of the Python documentation are the headings of its
//! FAQ, whose page is hidden with all its links, and what it linked to is gold. Measures nothing: `mod.rs` does.

use super::{Embed, Progress, RetrievalError};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{
    Filter, LabelledQuestion, Memory, MemoryConfig, Node, NodeId, Query, RecallLimits,
    SHARED_TENANT,
};

/// Words of the longest passage of the multi-hop sets, which are passages already.
const WHOLE: usize = 4000;
/// Texts that are embedded at a time.
const BATCH: usize = 64;
/// A heading with more links than this asks for a list, which five passages cannot hold.
const GOLD_MAX: usize = 4;

/// A memory and its questions.
#[derive(Debug)]
pub struct Corpus {
    /// Name in reports.
    pub name: &'static str,
    /// The passages.
    pub memory: Memory,
    /// The questions with the nodes that answer them.
    pub questions: Vec<LabelledQuestion>,
}

/// A passage as the multi-hop sets have it.
#[derive(Deserialize)]
struct Passage {
    title: String,
    text: String,
}

/// A question as the multi-hop sets have it: gold by title or by place.
#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    gold_titles: Vec<String>,
    #[serde(default)]
    gold_passages: Vec<usize>,
}

/// Where corpora are kept and what makes their vectors.
pub(super) struct Shelf<'a> {
    pub(super) cache: &'a Path,
    pub(super) embed: &'a Embed<'a>,
}

/// Opens a multi-hop set of the files `<set>_corpus.json` and `<set>_questions.json` in `folder`.
pub(super) fn multihop(
    shelf: &Shelf<'_>,
    name: &'static str,
    set: &str,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let passages: Vec<Passage> = read(&folder.join(format!("{set}_corpus.json")))?;
    let asked: Vec<Asked> = read(&folder.join(format!("{set}_questions.json")))?;
    let source = shelf.cache.join(format!("{name}.jsonl"));
    let mut lines = String::new();
    for (place, passage) in passages.iter().enumerate() {
        let (id, title, text) = (place.to_string(), &passage.title, &passage.text);
        let line = serde_json::json!({"id": id, "title": title, "text": text});
        let _ = writeln!(lines, "{line}");
    }
    std::fs::write(&source, lines).map_err(|error| RetrievalError::file(&source, error))?;
    let options = IngestOptions {
        passage_words: WHOLE,
        ..IngestOptions::default()
    };
    let memory = shelf.filled(name, &source, &options, progress)?;
    let places = places(&memory)?;
    let by_place: HashMap<&str, NodeId> = (places.iter())
        .filter_map(|node| Some((node.metadata.uri.as_deref()?.split_once('#')?.1, node.id)))
        .collect();
    let titles = passages.iter().enumerate();
    let by_title: HashMap<&str, usize> = titles.map(|(at, p)| (p.title.as_str(), at)).collect();
    let mut questions = Vec::new();
    for asked in &asked {
        let titles = asked.gold_titles.iter();
        let titled = titles.filter_map(|title| by_title.get(title.as_str()));
        let gold: HashSet<NodeId> = (titled.chain(&asked.gold_passages))
            .filter_map(|place| by_place.get(place.to_string().as_str()).copied())
            .collect();
        let gold: Vec<NodeId> = gold.into_iter().collect();
        questions.push(labelled(&asked.question, gold, Vec::new(), shelf.embed)?);
    }
    Ok(Corpus {
        name,
        memory,
        questions,
    })
}

/// Opens the Python documentation in `folder`.
pub(super) fn python_docs(
    shelf: &Shelf<'_>,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let name = "python-docs";
    let options = IngestOptions {
        domain: Some("python".to_owned()),
        ..IngestOptions::default()
    };
    let memory = shelf.filled(name, folder, &options, progress)?;
    let nodes = places(&memory)?;
    let page = |node: &Node| -> Option<String> {
        let uri = node.metadata.uri.as_deref()?;
        let page = uri.split('#').next().unwrap_or(uri);
        page.contains("faq/").then(|| page.to_owned())
    };
    let faq: HashSet<NodeId> = (nodes.iter())
        .filter(|node| page(node).is_some())
        .map(|node| node.id)
        .collect();
    // A section may be several passages, whose links are all its own.
    let mut sections: Vec<(String, String, HashSet<NodeId>)> = Vec::new();
    for node in &nodes {
        let title = node.metadata.title.as_deref().unwrap_or_default();
        let Some((page, (_, heading))) = page(node).zip(title.split_once(" › ")) else {
            continue;
        };
        if !heading.ends_with('?') {
            continue;
        }
        let linked = memory.edges(node.id).map_err(RetrievalError::Memory)?;
        let gold = (linked.iter())
            .filter(|edge| edge.src == node.id && edge.rel == "hyperlink")
            .filter(|edge| !faq.contains(&edge.dst))
            .map(|edge| edge.dst);
        let known = (sections.iter_mut()).find(|section| section.0 == page && section.1 == heading);
        match known {
            Some(section) => section.2.extend(gold),
            None => sections.push((page, heading.to_owned(), gold.collect())),
        }
    }
    let mut questions = Vec::new();
    for (asked_on, heading, gold) in sections {
        if gold.is_empty() || gold.len() > GOLD_MAX {
            continue;
        }
        let on_page = |node: &&Node| page(node).is_some_and(|page| page == asked_on);
        let hidden = nodes.iter().filter(on_page).map(|node| node.id).collect();
        let gold = gold.into_iter().collect();
        questions.push(labelled(&heading, gold, hidden, shelf.embed)?);
    }
    Ok(Corpus {
        name,
        memory,
        questions,
    })
}

fn labelled(
    question: &str,
    mut gold: Vec<NodeId>,
    hidden: Vec<NodeId>,
    embed: &Embed<'_>,
) -> Result<LabelledQuestion, RetrievalError> {
    gold.sort_unstable();
    let vector = embed(&[question]).map_err(RetrievalError::Embed)?.pop();
    let query = Query {
        text: question.to_owned(),
        vector,
        filter: Filter {
            tenant: SHARED_TENANT.to_owned(),
            hidden,
            ..Filter::default()
        },
        k: RecallLimits::default().seeds,
        ..Query::default()
    };
    Ok(LabelledQuestion { query, gold })
}

impl Shelf<'_> {
    /// The store of a corpus, with all its passages and their vectors.
    fn filled(
        &self,
        name: &'static str,
        source: &Path,
        options: &IngestOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Memory, RetrievalError> {
        let one = (self.embed)(&["dimensions"]).map_err(RetrievalError::Embed)?;
        let config = MemoryConfig {
            dimensions: one.first().map_or(0, Vec::len),
            embedding_model: "all-minilm-l6-v2".to_owned(),
        };
        let folder = self.cache.join(name);
        let memory = Memory::open(&folder, &config).map_err(RetrievalError::Open)?;
        let paths = [source.to_owned()];
        ingest(&memory, &paths, options, &mut |_| {}).map_err(RetrievalError::Ingest)?;
        loop {
            let waiting = memory.pending_vectors(BATCH);
            let waiting = waiting.map_err(RetrievalError::Memory)?;
            let counts = memory.counts();
            progress(name, counts.vectors, counts.nodes);
            if waiting.is_empty() {
                break;
            }
            let texts: Vec<&str> = waiting.iter().map(|(_, text)| text.as_str()).collect();
            let vectors = (self.embed)(&texts).map_err(RetrievalError::Embed)?;
            let ids = waiting.iter().map(|(id, _)| *id);
            let vectors: Vec<(NodeId, Vec<f32>)> = ids.zip(vectors).collect();
            memory
                .set_vectors(&vectors)
                .map_err(RetrievalError::Write)?;
        }
        while memory.join_topics(BATCH).map_err(RetrievalError::Topics)? > 0 {}
        Ok(memory)
    }
}

/// All passages.
fn places(memory: &Memory) -> Result<Vec<Node>, RetrievalError> {
    let filter = Filter {
        tenant: SHARED_TENANT.to_owned(),
        ..Filter::default()
    };
    let mut nodes = Vec::new();
    memory
        .each_node(&filter, &mut |node| nodes.push(node))
        .map_err(RetrievalError::Memory)?;
    Ok(nodes)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RetrievalError> {
    let text = std::fs::read_to_string(path).map_err(|error| RetrievalError::file(path, error))?;
    serde_json::from_str(&text).map_err(|source| RetrievalError::Parse {
        path: path.display().to_string(),
        source,
    })
}
